// Package dev plays keyhook on one machine, with nothing installed: an etcd, a
// NATS server, a webhook inbox and a run of keyhook in one process, and a story
// to watch.
//
//	story ──put, delete──▶ etcd ──▶ keyhook ──▶ webhook inbox ──▶ what is printed
//	                                   └──────▶ NATS server ───▶
//
// Every message stays in the process, whatever the url of its sink says: a
// configuration can be tried without paging anybody. All data lies in temporary
// directories that are removed at the end.
//
// A story is a list of changes with what each of them is expected to come to. It
// lies beside the configuration, as story.yaml; a configuration without one is
// told the story of the quickstart, without its expectations.
package dev
