package schema

import _ "embed"

//go:generate go run ./generate

var (
	//go:embed config.schema.json
	config string
	//go:embed rules.schema.json
	rules string
)

// Config returns the schema of keyhook.yaml.
func Config() string { return config }

// Rules returns the schema of rule files.
func Rules() string { return rules }
