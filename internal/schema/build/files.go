package build

import (
	"fmt"
	"maps"
	"path/filepath"

	"keyhook/internal/config"
	"keyhook/rules"
	"keyhook/rules/ruletest"
)

// Files returns what is generated for the repository at root, by path within it.
func Files(root string) (map[string][]byte, error) {
	docs := Docs{}
	for pkg, dir := range map[string]string{"keyhook/internal/config": "internal/config", "keyhook/rules": "rules", "keyhook/rules/ruletest": "rules/ruletest"} {
		d, err := ReadDocs(pkg, filepath.Join(root, dir))
		if err != nil {
			return nil, err
		}
		maps.Copy(docs, d)
	}
	keyhookYAML, err := Of(config.FileType(), docs)
	if err != nil {
		return nil, fmt.Errorf("keyhook.yaml: %w", err)
	}
	ruleFile, err := Of(rules.FileType(), docs)
	if err != nil {
		return nil, fmt.Errorf("rule files: %w", err)
	}
	configSchema, err := JSONSchema("keyhook.yaml", "Where etcd is, where progress is kept, and which rules there are.", keyhookYAML)
	if err != nil {
		return nil, fmt.Errorf("keyhook.yaml: %w", err)
	}
	rulesSchema, err := JSONSchema("keyhook rules", "What is delivered to whom: sinks and rules.", ruleFile)
	if err != nil {
		return nil, fmt.Errorf("rule files: %w", err)
	}
	testFile, err := Of(ruletest.FileType(), docs)
	if err != nil {
		return nil, fmt.Errorf("tests of rules: %w", err)
	}
	testSchema, err := JSONSchema("keyhook tests of rules", "What etcd holds, what changes, how sinks answer, and what must arrive.", testFile)
	if err != nil {
		return nil, fmt.Errorf("tests of rules: %w", err)
	}
	return map[string][]byte{
		"internal/schema/config.schema.json": configSchema,
		"internal/schema/rules.schema.json":  rulesSchema,
		"internal/schema/test.schema.json":   testSchema,
		"docs/reference.md":                  []byte(preface + Markdown("keyhook.yaml", 2, keyhookYAML) + Markdown("Rule files", 2, ruleFile)),
	}, nil
}

const preface = `<!-- Generated from the Go types by make generate; edit their comments instead. -->

# Reference

Every field of keyhook's files. [Configuration](configuration.md) explains them with examples. ` + "`keyhook schema`" + ` prints
the same as JSON Schemas, for editors.

| Type | Written as |
|---|---|
| duration | a number with its unit: ` + "`500ms`, `10s`, `1h30m`, `7d`; `0`" + ` |
| rate | a number a second, minute or hour: ` + "`100/s`, `30/m`, `5/h`" + ` |
| size | a number of bytes with its unit: ` + "`512MiB`, `1GB`" + ` |
| secret | ` + "`{env: NAME}`, `{file: PATH}`" + `, or the secret itself; never shown |
| expression | [CEL](https://cel.dev) |
| pattern | a key, in which ` + "`{x}` matches one or more bytes except `/`, and `{x...}`" + ` zero or more of any bytes, at the end only |

`
