// Package schema has JSON Schemas (draft 2020-12) of the files that people
// write, for editors that check and complete while typing. They are generated
// from the types that the files are decoded into, and so is docs/reference.md; a
// test holds both up to date.
//
// What a schema accepts may still be wrong: CEL, names that are not defined,
// secrets that cannot be read. `keyhook check` finds that.
package schema
