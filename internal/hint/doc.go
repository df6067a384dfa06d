// Package hint is about errors that say what to do about them. Whoever reports
// an error to a person asks [Of] for its hint, whatever type it is of.
package hint
