// Package onlook reads changes of etcd for somebody who looks on: nothing is
// stored, nothing is delivered, no checkpoint is touched.
//
// The changes are those that the rules see, with one difference: what a key held
// before comes from etcd and not from the mirror, so it is absent where etcd has
// compacted it, and what a key held before it was deleted is known only of
// deletions that were seen, or that a look back finds. Trouble with etcd is an
// error, not something to wait for.
package onlook
