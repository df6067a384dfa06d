// Package config reads keyhook.yaml: strictly, with every default applied,
// every secret resolved, and everything that is wrong reported at once with its
// place. It knows what a configuration says, not how any of it is done.
//
// Relative paths are relative to the file that contains them.
package config
