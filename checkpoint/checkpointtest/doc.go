// Package checkpointtest says in tests what the contracts of package checkpoint
// mean. [Run] is the suite that every backend passes. [Memory] is the smallest
// thing that passes it, with hooks to make it fail: other packages test against
// it, and backends are held against it.
package checkpointtest
