package schema

import _ "embed"

//go:generate go run ./generate

var (
	//go:embed config.schema.json
	config string
	//go:embed rules.schema.json
	rules string
	//go:embed test.schema.json
	test string
)

// Config returns the schema of keyhook.yaml.
func Config() string { return config }

// Rules returns the schema of rule files.
func Rules() string { return rules }

// Test returns the schema of tests of rules.
func Test() string { return test }
