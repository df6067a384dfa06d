// Package inboxtest runs inboxes inside of tests: receivers of webhooks, on a
// loopback port of their own.
package inboxtest
