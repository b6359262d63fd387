package main

import (
	"slices"
	"strings"
	"testing"
)

// TestRender writes the median, the least and the greatest of what runs measured, and what is beside it.
func TestRender(t *testing.T) {
	f, err := read(strings.NewReader(`goos: linux
cpu: AMD EPYC
BenchmarkHotFlow/TCP/xdp_ingress-2 	 1	 48.00 ns/packet-above-empty	 21.00 ns/packet-empty
BenchmarkHotFlow/TCP/xdp_ingress-2 	 1	 51.50 ns/packet-above-empty	 23.00 ns/packet-empty
BenchmarkHotFlow/TCP/xdp_ingress-2 	 1	 40.00 ns/packet-above-empty	 22.00 ns/packet-empty
BenchmarkDrain-2 	 1	 2415100 events/s
BenchmarkEvent-2 	 1	 675.2 ns/op	 0 B/op
`))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(render(f, 3)), "\n")
	if !strings.HasPrefix(lines[0], "AMD EPYC, ") || !strings.HasSuffix(lines[0], "; medians of 3, and the least and the greatest.") {
		t.Errorf("the first line is %q", lines[0])
	}
	for _, want := range []string{
		"| one flow, XDP | 48 ns | 40 – 51.5 | 42 | 22 |",
		"| spool: events read back | 2.42 million a second | 2.42 million – 2.42 million |  |  |",
		"| record read, made a FlowEvent and encoded | 675 ns | 675 – 675 |  |  |",
		"| one flow, tc ingress | not measured | | | |",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("there is no line %q", want)
		}
	}
}
