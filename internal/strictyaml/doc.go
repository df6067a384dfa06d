// Package strictyaml decodes YAML files the way people write them: anything
// that is not understood is an error, every error has its place, and all of
// them are reported at once.
//
//	sinks.yaml:4:7: unknown field "retri"
//	    did you mean "retry"?
//
// It refuses what hides mistakes: unknown fields, duplicate keys, values of
// another type, fields without a value, empty files, several documents, merge
// keys, bytes that are not UTF-8. Aliases work, and expand to a bounded size.
//
// [Decode] fills structs by their yaml tags. A type that implements [Decoder]
// decodes itself from a [Node] and can keep its place; [Text] also finds the
// place of a line and column inside of a block scalar.
package strictyaml
