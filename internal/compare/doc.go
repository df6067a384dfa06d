// Package compare says what differs between two configurations: the one that
// runs and the one that would, or two of files.
//
//	configuration, rules ────────▶ Inventory ─┐
//	                                          ├─Compare─▶ Changes
//	configuration, rules ────────▶ Inventory ─┘
//
// An inventory may be sent to another process. It holds no secret and no
// expression: of those only what a keyed hash makes of them, with a key that the
// one who asks has chosen for this comparison. So the one who is asked learns
// nothing, and answers nothing but whether they are the same.
package compare
