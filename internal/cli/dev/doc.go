// Package dev plays keyhook on one machine, with nothing installed: an etcd, a
// webhook inbox and a run of keyhook in one process, and a story to watch.
//
//	story ──put, delete──▶ etcd ──▶ keyhook ──▶ inbox ──▶ what is printed
//
// Every webhook goes to the inbox, whatever its url says: a configuration can be
// tried without paging anybody. All data lies in a temporary directory that is
// removed at the end.
package dev
