// Package build makes the schemas and the reference of keyhook's files out of
// the Go types that the files are decoded into.
//
//	types, tags and comments ──▶ Fields ──▶ JSONSchema, Markdown
//
// A field's meaning is its doc comment, without which there is no schema. What
// types do not tell stands in tags:
//
//	yaml:"name,required"        as strictyaml reads it
//	default:"16"                the default, as it would be written
//	unset:"no limit"            what holds without it, where that cannot be written
//	enum:"key|none"             the strings that are known
//	min:"1" max:"10000"         bounds of a number
//	as:"pattern"                another kind than the type's
//	oneof:"webhook|nats"        on a struct's position: exactly one of these fields
//	mostone:"user|token|nkey"   at most one of them
//
// Types that decode themselves say by [strictyaml.Shaped] what they take.
package build
