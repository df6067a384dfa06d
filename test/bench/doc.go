// Package bench measures keyhook as it is released against the loop that people
// would write without it, in the same run and on the same machine:
//
//	BenchmarkThroughput  draining a backlog to a webhook on the loopback interface,
//	                     against a bare net/http client that posts the same bodies,
//	                     with the same headers, to the same receiver
//	BenchmarkLatency     from the put to the webhook at a tenth of that load, against
//	                     a bare clientv3.Watch that posts what it gets
//	BenchmarkSinks       the same at a fixed rate to twenty sinks: all healthy, a tenth
//	                     of them slow, a tenth dead; against all healthy
//	BenchmarkJetStream   draining a backlog to a stream, against a client that
//	                     publishes the same messages asynchronously, headers included
//	BenchmarkInside      both drains within this process, for -cpuprofile and -memprofile
//
// The receiver is a process of its own in each case. Ratios are what to look at:
// on another machine, or a busy one, both sides change alike. What a drain costs,
// in processor time and bytes written for each change, is steadier still.
// `make bench` runs it.
package bench
