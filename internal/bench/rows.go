package main

// row is what one benchmark measures, in one of its units.
type row struct {
	what      string
	benchmark string // name, as go test prints it, without "Benchmark" and the number of CPUs
	unit      string
	atMost    float64 // 0: there is no bound
}

const (
	aboveEmpty = "ns/packet-above-empty"
	empty      = "ns/packet-empty" // beside aboveEmpty, of the same benchmark
)

// table is a number of rows that belong together.
type table struct {
	title string
	rows  []row
}

var tables = []table{
	{"A packet", []row{
		{"one flow, XDP", "HotFlow/TCP/xdp_ingress", aboveEmpty, 42},
		{"one flow, tc ingress", "HotFlow/TCP/tc_ingress", aboveEmpty, 42},
		{"one flow, tc egress", "HotFlow/TCP/tc_egress", aboveEmpty, 42},
		{"one flow, IPv6, tc ingress", "HotFlow/UDP6/tc_ingress", aboveEmpty, 0},
		{"one flow, two VLAN tags, tc ingress", "HotFlow/thorough/tc_ingress", aboveEmpty, 0},
		{"one flow, filter `tcp port 443`, tc ingress", "HotFlow/filter/tc_ingress", aboveEmpty, 0},
		{"one flow, with everything sampled that a fingerprint needs, tc ingress", "HotFlow/samples/tc_ingress", aboveEmpty, 0},
		{"65,536 flows at random, XDP", "Flows/65536/xdp_ingress", aboveEmpty, 85},
		{"65,536 flows at random, tc ingress", "Flows/65536/tc_ingress", aboveEmpty, 85},
		{"1,048,576 flows at random, XDP", "Flows/1048576/xdp_ingress", aboveEmpty, 215},
		{"1,048,576 flows at random, tc ingress", "Flows/1048576/tc_ingress", aboveEmpty, 215},
		{"1,048,576 flows, Zipf (s = 1.1)", "Zipf", aboveEmpty, 110},
		{"a new connection on every packet", "NewFlows/room", aboveEmpty, 500},
		{"a new connection on every packet, the table full", "NewFlows/full", aboveEmpty, 0},
		{"one flow on two CPUs at a time", "HotFlowOnTwoCPUs", aboveEmpty, 0},
		{"the same, compared with one CPU", "HotFlowOnTwoCPUs", "times-one-CPU", 1.5},
	}},
	{"What cannot be cheaper", []row{
		{"one flow: add to a place in memory", "Limit/1/access", aboveEmpty, 0},
		{"one flow: add to a place in memory, once the last packet has", "Limit/1/latency", aboveEmpty, 0},
		{"one flow: find it in the kernel's LRU hash, and add", "Limit/1/lookup", aboveEmpty, 0},
		{"65,536 flows: add to a random place in memory", "Limit/65536/access", aboveEmpty, 0},
		{"65,536 flows: add to a random place in memory, once the last packet has", "Limit/65536/latency", aboveEmpty, 0},
		{"65,536 flows: find one in the kernel's LRU hash, and add", "Limit/65536/lookup", aboveEmpty, 0},
		{"1,048,576 flows: add to a random place in memory", "Limit/1048576/access", aboveEmpty, 0},
		{"1,048,576 flows: add to a random place in memory, once the last packet has", "Limit/1048576/latency", aboveEmpty, 0},
		{"1,048,576 flows: find one in the kernel's LRU hash, and add", "Limit/1048576/lookup", aboveEmpty, 0},
	}},
	{"A flow", []row{
		{"sweep of 1,048,576 flows, none due: each", "Sweep", "ns/entry", 100},
		{"the longest that such a sweep keeps its CPU", "Sweep", "µs/longest-run", 5000},
		{"record read, made a FlowEvent and encoded", "Event", "ns/op", 0},
		{"FlowEvent to acknowledged: arrays", "SendArrayPlain", "ns/op", 0},
		{"FlowEvent to acknowledged: arrays, gzip", "SendArrayGzip", "ns/op", 0},
		{"FlowEvent to acknowledged: arrays, gzip, spool", "SendArrayGzipSpooled", "ns/op", 0},
		{"1,048,576 flows handed over at once, gzip'ed arrays: CPU for each, from the sweep to acknowledged", "HandOver", "µs/event", 0},
		{"the same, from the record in the ring to acknowledged", "HandOver", "µs/event-but-sweeps", 1.5},
		{"the same: the agent's memory (RSS)", "HandOver", "peak-MB", 150},
		{"spool: events appended by one CPU, in batches of 500", "Append/batch_of_500_events,_never_synced", "events/s-of-CPU", 0},
		{"spool: events read back", "Drain", "events/s", 0},
	}},
	{"Who is talking", []row{
		{"JA4 of one ClientHello", "JA4", "ns/op", 1500},
		{"the same: allocations", "JA4", "allocs/op", 2},
		{"a connection with TLS 1.3, from its samples to what its event says", "Identify", "ns/op", 0},
		{"a connection of which there is no more than its handshake", "Describe", "ns/op", 0},
	}},
	{"The whole agent", []row{
		{"CPU at 1 Mpps of 131,072 flows, none due", "Resident", "%-of-a-CPU", 1},
		{"rate reached: 1,048,576 flows on two CPUs that also send", "FullRate", "Mpps", 0},
		{"the same: packets that are in no FlowEvent", "FullRate", "packets-missing", 0},
		{"ping-pong over a veth pair, half of them within: no agent", "PingPong/without", "p50-µs", 0},
		{"99 of 100 within: no agent", "PingPong/without", "p99-µs", 0},
		{"half within: agent", "PingPong/tc", "p50-µs", 0},
		{"99 of 100 within: agent", "PingPong/tc", "p99-µs", 0},
		{"half within: agent with 1,048,576 flows", "PingPong/tc_with_1048576_flows", "p50-µs", 0},
		{"99 of 100 within: agent with 1,048,576 flows", "PingPong/tc_with_1048576_flows", "p99-µs", 0},
		{"softflowd beside it, 65,536 flows: CPU for a packet", "Softflowd", "ns/packet", 0},
		{"softflowd: packets that it lost", "Softflowd", "%-lost", 0},
	}},
	{"The programs' size", []row{
		{"`xdp_ingress`: instructions that the verifier went through", "Instructions/xdp_ingress", verified, 0},
		{"`xdp_ingress`: machine code, bytes", "Instructions/xdp_ingress", codeBytes, 0},
		{"`tc_ingress`: instructions that the verifier went through", "Instructions/tc_ingress", verified, 0},
		{"`tc_ingress`: machine code, bytes", "Instructions/tc_ingress", codeBytes, 0},
		{"`tc_egress`: instructions that the verifier went through", "Instructions/tc_egress", verified, 0},
		{"`tc_egress`: machine code, bytes", "Instructions/tc_egress", codeBytes, 0},
		{"`sweep`: instructions that the verifier went through", "Instructions/sweep", verified, 0},
		{"`sweep`: machine code, bytes", "Instructions/sweep", codeBytes, 0},
	}},
}

const (
	verified  = "verified-instructions"
	codeBytes = "code-bytes"
)
