// Package telemetry is what keyhook tells about itself while it runs: metrics
// for Prometheus in a registry of their own, and the logger.
//
// Counters and histograms are pushed by the parts as things happen; a call takes
// a read lock and allocates nothing once its series exists. Gauges are read from
// one [Snapshot] when somebody asks, so that they agree with each other.
//
// [Metrics] has the methods that the dispatcher asks of its observer. No label
// or value holds a secret: labels are names out of the rules, ranges and
// outcomes.
package telemetry
