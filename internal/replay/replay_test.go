package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"weir/internal/capture"
	"weir/internal/collect"
	"weir/internal/datapath"
	"weir/internal/flow"
	"weir/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	client = "10.0.0.1:40000"
	server = "10.0.0.2:443"
	maxF   = 1024
)

// newReplay returns a Replay of a file with the default timeouts, over a map of 1024 flows.
func newReplay(t testing.TB, file []byte, events io.Writer) *Replay {
	t.Helper()
	testnet.NeedRoot(t)
	kernel, err := datapath.Load(datapath.Config{MaxFlows: maxF, Sampling: 1, Replay: true})
	if err != nil {
		testnet.Unavailable(t, err)
	}
	t.Cleanup(func() {
		if err := kernel.Close(); err != nil {
			t.Error(err)
		}
	})
	reader, err := capture.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Capture: reader, Name: "a.pcap", Events: events, Collect: collect.Config{
		Limits: flow.Limits{
			TCPIdle: time.Minute, OtherIdle: 30 * time.Second, Active: time.Minute, Linger: time.Second,
		}, MaxFlows: maxF, HighWater: 80, Hostname: "node-1",
	}}, kernel)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// event is what is compared of a FlowEvent. Times are since CaptureStart.
type event struct {
	fromServer bool
	start, end time.Duration
	packets    int
	reason     string
}

func decode(t *testing.T, lines []byte) (events []event) {
	t.Helper()
	for line := range bytes.Lines(lines) {
		var e struct {
			Start     time.Time `json:"start_time"`
			End       time.Time `json:"timestamp"`
			SrcIP     string    `json:"src_ip"`
			Packets   int       `json:"packet_count"`
			Reason    string    `json:"end_reason"`
			Interface string    `json:"interface"`
			Direction string    `json:"direction"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e.Interface != "a.pcap" || e.Direction != "unknown" {
			t.Errorf("interface %q, direction %q", e.Interface, e.Direction)
		}
		since := func(at time.Time) time.Duration { return at.Sub(testnet.CaptureStart) }
		events = append(events, event{e.SrcIP == "10.0.0.2", since(e.Start), since(e.End), e.Packets, e.Reason})
	}
	return events
}

func udp(at time.Duration) testnet.Captured {
	return testnet.Captured{At: at, Frame: testnet.UDP(client, server, 10).Bytes()}
}

func tcp(at time.Duration, fromServer bool, flags uint8) testnet.Captured {
	src, dst := client, server
	if fromServer {
		src, dst = server, client
	}
	return testnet.Captured{At: at, Frame: testnet.TCP(src, dst, flags, 0).Bytes()}
}

// each returns a datagram every second, from one time to another.
func each(from, to int) (frames []testnet.Captured) {
	for i := from; i <= to; i++ {
		frames = append(frames, udp(time.Duration(i)*time.Second))
	}
	return frames
}

// every returns n datagrams, one after each pause.
func every(pause time.Duration, n int) (frames []testnet.Captured) {
	for i := range n {
		frames = append(frames, udp(time.Duration(i)*pause))
	}
	return frames
}

// minutes returns n events of one packet each, a minute apart, of which only the last was not idle.
func minutes(n int) (events []event) {
	for i := range n {
		at := time.Duration(i) * time.Minute
		events = append(events, event{false, at, at, 1, "idle"})
	}
	events[n-1].reason = "shutdown"
	return events
}

// TestClock: flows end when the capture's clock says so, and their times are the packets' own.
func TestClock(t *testing.T) {
	const s, ms, us = time.Second, time.Millisecond, time.Microsecond
	for name, row := range map[string]struct {
		frames []testnet.Captured
		want   []event // in their order
	}{
		"nothing":   {nil, nil},
		"one":       {[]testnet.Captured{udp(7 * us)}, []event{{false, 7 * us, 7 * us, 1, "shutdown"}}},
		"idle":      {[]testnet.Captured{udp(0), udp(29 * s), udp(62 * s)}, []event{{false, 0, 29 * s, 2, "idle"}, {false, 62 * s, 62 * s, 1, "shutdown"}}},
		"idle, TCP": {[]testnet.Captured{tcp(0, false, testnet.ACK), tcp(62*s, true, testnet.ACK)}, []event{{false, 0, 0, 1, "idle"}, {true, 62 * s, 62 * s, 1, "shutdown"}}},
		"active":    {each(0, 100), []event{{false, 0, 59 * s, 60, "active"}, {false, 60 * s, 100 * s, 41, "shutdown"}}},
		"a year":    {[]testnet.Captured{udp(0), udp(365 * 24 * time.Hour)}, []event{{false, 0, 0, 1, "idle"}, {false, 365 * 24 * time.Hour, 365 * 24 * time.Hour, 1, "shutdown"}}},
		"linger": {
			[]testnet.Captured{
				tcp(0, false, testnet.SYN), tcp(1*ms, true, testnet.SYN|testnet.ACK),
				tcp(2*s, false, testnet.FIN|testnet.ACK), tcp(2*s+1*ms, true, testnet.FIN|testnet.ACK), tcp(2*s+900*ms, false, testnet.ACK),
				tcp(5*s, false, testnet.SYN),
			},
			[]event{{false, 0, 2*s + 900*ms, 3, "fin"}, {true, 1 * ms, 2*s + 1*ms, 2, "fin"}, {false, 5 * s, 5 * s, 1, "shutdown"}},
		},
		"reset": {
			[]testnet.Captured{tcp(0, false, testnet.SYN), tcp(1*ms, true, testnet.RST|testnet.ACK), tcp(500*ms, false, testnet.SYN)},
			[]event{{false, 0, 0, 1, "rst"}, {true, 1 * ms, 1 * ms, 1, "rst"}, {false, 500 * ms, 500 * ms, 1, "shutdown"}},
		},
		"out of order": {[]testnet.Captured{udp(10 * s), udp(9 * s), udp(12 * s)}, []event{{false, 10 * s, 12 * s, 3, "shutdown"}}},
		"another capture behind": {
			[]testnet.Captured{udp(time.Hour), udp(0), udp(29 * s), udp(62 * s)},
			[]event{{false, time.Hour, time.Hour, 1, "shutdown"}, {false, 0, 29 * s, 2, "idle"}, {false, 62 * s, 62 * s, 1, "shutdown"}},
		},
		"a lost packet of another clock": {
			[]testnet.Captured{udp(time.Hour), udp(0), udp(time.Hour + s)},
			[]event{{false, time.Hour, time.Hour + s, 3, "shutdown"}},
		},
		"born closed": {
			[]testnet.Captured{tcp(0, true, testnet.RST), tcp(5*s, true, testnet.ACK)},
			[]event{{true, 0, 0, 1, "rst"}, {true, 5 * s, 5 * s, 1, "shutdown"}},
		},
		"a day, a packet a minute": {
			every(time.Minute, 24*60), minutes(24 * 60),
		},
		"another capture behind a close": {
			[]testnet.Captured{tcp(time.Hour, true, testnet.ACK), tcp(time.Hour, false, testnet.RST), tcp(0, true, testnet.ACK), tcp(0, false, testnet.RST), udp(2 * s)},
			[]event{{false, time.Hour, time.Hour, 1, "rst"}, {true, time.Hour, time.Hour, 1, "rst"}, {false, 0, 0, 1, "rst"}, {true, 0, 0, 1, "rst"}, {false, 2 * s, 2 * s, 1, "shutdown"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			books, err := newReplay(t, testnet.Pcap(t, row.frames...), &out).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := decode(t, out.Bytes()); !slices.Equal(got, row.want) {
				t.Errorf("events %v\nwant   %v", got, row.want)
			}
			if seen := books.Seen(); seen.Packets != uint64(len(row.frames)) || books.Ledger.Exported != seen {
				t.Errorf("%d packets, books %+v", len(row.frames), books)
			}
		})
	}
}

// TestEviction: a map that is too small takes nothing out of the books.
func TestEviction(t *testing.T) {
	const flows = 4 * maxF
	var frames []testnet.Captured
	for i := range flows {
		frames = append(frames, testnet.Captured{Frame: testnet.UDP(fmt.Sprintf("10.0.0.1:%d", 1+i), server, 10).Bytes()})
	}
	var out bytes.Buffer
	books, err := newReplay(t, testnet.Pcap(t, frames...), &out).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := &books.Ledger
	if l.Evictions == 0 || l.Evictions > flows-maxF || l.Evicted.Packets != l.Evictions || books.Events != flows-l.Evictions {
		t.Errorf("%d of %d flows evicted, with %+v; %d events", l.Evictions, flows, l.Evicted, books.Events)
	}
	if packets, bytes := books.Unaccounted(); packets != 0 || bytes != 0 {
		t.Errorf("%d packets, %d bytes unaccounted", packets, bytes)
	}
}

// TestCut writes the events of what could be read.
func TestCut(t *testing.T) {
	file := testnet.Pcap(t, udp(0), udp(time.Second))
	var out bytes.Buffer
	books, err := newReplay(t, file[:len(file)-1], &out).Run(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "behind packet 1, ") {
		t.Errorf("error %v", err)
	}
	if len(decode(t, out.Bytes())) != 1 || books.Events != 1 || books.Seen().Packets != 1 {
		t.Errorf("books %+v, events %q", books, out.String())
	}
}

// TestInterrupted stops reading, and accounts for what was read.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	books, err := newReplay(t, testnet.Pcap(t, udp(0)), io.Discard).Run(ctx)
	if err == nil || err.Error() != "interrupted behind packet 0" || books.Seen().Packets != 0 {
		t.Errorf("error %v, books %+v", err, books)
	}
}

// nobody identifies nothing.
type nobody struct{}

func (nobody) Sample(*flow.Sample)                  {}
func (nobody) Lengths(*flow.Lengths)                {}
func (nobody) Describe(*flow.Record) *flow.Identity { return nil }
func (nobody) Tidy()                                {}

// counting is a kernel side that counts how often its map is walked.
type counting struct {
	*datapath.Datapath
	walks int
}

func (c *counting) Sweep(nowNs uint64, limits flow.Limits) (flow.Resident, bool, error) {
	c.walks++
	return c.Datapath.Sweep(nowNs, limits)
}

func (c *counting) SweepOut() (flow.Resident, bool, error) {
	c.walks++
	return c.Datapath.SweepOut()
}

// TestWalks: the map is walked when there is something to be found, not for every two seconds of the capture.
func TestWalks(t *testing.T) {
	const packets = 2000
	var interleaved []testnet.Captured // two clocks, 61 s apart
	for i := range packets {
		at := time.Duration(i)*time.Millisecond + time.Duration(i%2)*61*time.Second
		frame := testnet.UDP(fmt.Sprintf("10.0.0.1:%d", 1000+i%2), server, 10).Bytes()
		interleaved = append(interleaved, testnet.Captured{At: at, Frame: frame})
	}
	for name, row := range map[string]struct {
		frames []testnet.Captured
		most   int
	}{
		"a packet a second": {every(time.Second, packets), packets / 15},
		"a packet a day":    {every(24*time.Hour, 20), 2*20 + 2},
		"two clocks":        {interleaved, 10},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplay(t, testnet.Pcap(t, row.frames...), io.Discard)
			kernel := &counting{Datapath: r.kernel}
			collector, err := collect.New(r.cfg.Collect, kernel, r, nobody{}, r.clock, r, zap.NewNop(), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			r.collector = collector
			books, err := r.Run(t.Context())
			if err != nil || books.Ledger.Exported.Packets != uint64(len(row.frames)) {
				t.Errorf("error %v, books %+v", err, books)
			}
			if kernel.walks > row.most {
				t.Errorf("%d walks for %d packets, want %d at most", kernel.walks, len(row.frames), row.most)
			}
		})
	}
}

// TestInterruptedGap: a long gap in a capture does not keep a replay from ending.
func TestInterruptedGap(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newReplay(t, testnet.Pcap(t, udp(0), udp(time.Hour)), &cancelling{cancel})
	r.events = bufio.NewWriterSize(r.cfg.Events, 16) // the idle flow's event, in the gap, is what cancels
	books, err := r.Run(ctx)
	if err == nil || err.Error() != "interrupted behind packet 1" || books.Seen().Packets != 1 {
		t.Errorf("error %v, books %+v", err, books)
	}
}

// cancelling ends a context when it is written to.
type cancelling struct{ cancel context.CancelFunc }

func (c *cancelling) Write(b []byte) (int, error) {
	c.cancel()
	return len(b), nil
}

type full struct{ error }

func (f full) Write([]byte) (int, error) { return 0, f.error }

// TestUnwritten ends soon after an event could not be written.
func TestUnwritten(t *testing.T) {
	noSpace := errors.New("no space left")
	var frames []testnet.Captured
	for i := range 2000 {
		frames = append(frames, udp(time.Duration(i)*time.Minute))
	}
	books, err := newReplay(t, testnet.Pcap(t, frames...), full{noSpace}).Run(t.Context())
	if !errors.Is(err, noSpace) || strings.Count(err.Error(), "write the events") != 1 {
		t.Errorf("error %v, want %v, once", err, noSpace)
	}
	if n := books.Seen().Packets; n == 0 || n == 2000 {
		t.Errorf("%d packets counted before it stopped", n)
	}
}

func TestBooks(t *testing.T) {
	books := Books{
		Events: 3,
		Ledger: flow.Ledger{
			Seen:      map[string]flow.Counter{"tc_ingress": {Packets: 1200, Bytes: 120000}},
			Uncounted: map[string]flow.Counter{"not_ip": {Packets: 20, Bytes: 2000}, "malformed": {}},
			Counted:   flow.Counter{Packets: 1180, Bytes: 118000}, Inserts: 5, Unopened: 7,
			Exported: flow.Counter{Packets: 1177, Bytes: 117600}, Deletes: 2,
			Evicted: flow.Counter{Packets: 3, Bytes: 300}, Evictions: 3,
		},
	}
	const want = `
                          packets   bytes  connections
                    seen     1200  120000            -
                  not_ip       20    2000            -
                 counted     1180  118000            5
  of which not unwrapped        7       -            -
                exported     1177  117600            2
                 evicted        3     300            3
             unaccounted        0     100            -
events: 3
`
	var out strings.Builder
	if err := books.Write(&out); err != nil || "\n"+out.String() != want {
		t.Errorf("wrote %s(error %v), want %s", out.String(), err, want)
	}
	if err := books.Write(full{io.ErrShortWrite}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error %v, want %v", err, io.ErrShortWrite)
	}
}

// TestProgress shows a line after a second and a few times a second, and leaves none.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := progress{out: &out, size: 4e6, next: time.Now().Add(progressAfter)}
		for range 12 {
			time.Sleep(100 * time.Millisecond)
			p.show(3e6, 1024)
		}
		p.erase()
		const line = "\r\x1b[K1024 packets, 3 MB of 4 MB, 75 %"
		if want := line + line + "\r\x1b[K"; out.String() != want {
			t.Errorf("wrote %q, want %q", out.String(), want)
		}
		none := progress{size: 4e6}
		none.show(3e6, 1024)
		none.erase()
	})
}

// BenchmarkReplay prints what a packet of a capture costs, from the file to the events.
func BenchmarkReplay(b *testing.B) {
	var frames []testnet.Captured
	for i := range 100_000 {
		frame := testnet.TCP(fmt.Sprintf("10.0.0.1:%d", 1+i%500), server, testnet.ACK, 1000).Bytes()
		frames = append(frames, testnet.Captured{At: time.Duration(i) * 100 * time.Microsecond, Frame: frame})
	}
	file := testnet.Pcap(b, frames...)
	for b.Loop() {
		b.StopTimer()
		r := newReplay(b, file, io.Discard)
		b.StartTimer()
		if _, err := r.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(frames))/b.Elapsed().Seconds(), "packets/s")
}
