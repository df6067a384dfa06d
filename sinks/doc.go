// Package sinks says what the dispatcher asks of a receiver of deliveries, and
// how a receiver says what went wrong. The implementations are its
// subdirectories; sinktest holds the suite that each of them passes.
package sinks
