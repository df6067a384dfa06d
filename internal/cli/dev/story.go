package dev

// step is one change of the story.
type step struct {
	why   string
	key   string
	value string
	del   bool
	// want are the rules of the quickstart that this change owes a delivery to.
	want []string
	// fail makes the inbox refuse the first attempt at it.
	fail bool
}

const (
	leader = "/service/prod-db/leader"
	health = "/apps/checkout/health"
)

// failover is what Patroni and an application write while a Postgres cluster
// loses its leader.
var failover = []step{
	{
		why: "Patroni elects the first leader of the cluster prod-db.",
		key: leader, value: "node-a", want: []string{"patroni-failover"},
	},
	{
		why: "node-a renews its lease: the same value again, and nobody wants to hear of it.",
		key: leader, value: "node-a",
	},
	{
		why: "An application reports that it is fine.",
		key: health, value: `{"status":"ok","latency_ms":12}`,
	},
	{
		why: "A switchover to node-b.",
		key: leader, value: "node-b", want: []string{"patroni-failover"}, fail: true,
	},
	{
		why: "node-b dies: its lease runs out, and etcd deletes the key.",
		key: leader, del: true, want: []string{"patroni-no-leader"},
	},
	{
		why: "The application feels it.",
		key: health, value: `{"status":"degraded","latency_ms":2150}`, want: []string{"app-health"},
	},
	{
		why: "Patroni elects node-c. The rule looks across the delete: who led before?",
		key: leader, value: "node-c", want: []string{"patroni-failover"},
	},
	{
		why: "The application recovers.",
		key: health, value: `{"status":"ok","latency_ms":14}`, want: []string{"app-health"},
	},
}
