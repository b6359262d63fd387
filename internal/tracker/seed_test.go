package tracker_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weir/internal/tracker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 5, 9, 12, 0, 0, 0, time.UTC)

// client and server are the ends of the connection that most tests are about.
const (
	client, clientPort = "10.0.0.1", 50123
	server, serverPort = "192.0.2.1", 443
)

func newConnection() *tracker.Connection {
	return tracker.NewConnection(client, clientPort, server, serverPort, "tcp", start)
}

// open lets the client of a number send a packet to the server.
func open(t *tracker.Tracker, number int, proto string, ts time.Time) *tracker.Connection {
	return t.Update(fmt.Sprintf("10.0.%d.%d", number/256, number%256), clientPort, server, serverPort, proto, ts, 100)
}

// TestSeed holds the package to what its users were promised, one test for each promise.
func TestSeed(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"MakeKey":                                     seedMakeKey,
		"MakeKey of both directions":                  seedMakeKeyMerges,
		"NewConnection":                               seedNewConnection,
		"Update creates and finds":                    seedUpdate,
		"Update of both directions":                   seedUpdateMerges,
		"Update keeps the latest time":                seedUpdateOutOfOrder,
		"AddFingerprint skips repetitions in a row":   seedDuplicates,
		"AddFingerprint knows types in lower case":    seedLowerCase,
		"the history keeps the first and the latest":  seedHistory,
		"Latest of nothing":                           seedLatestOfNothing,
		"PrimaryFingerprint":                          seedPrimary,
		"Evict by idle timeout":                       seedEvictIdle,
		"Evict the least recently used":               seedEvictLRU,
		"Evict without OnEvict":                       seedEvictNilCallback,
		"Get":                                         seedGet,
		"Count":                                       seedCount,
		"All returns snapshots":                       seedAll,
		"Snapshot is a deep copy":                     seedSnapshot,
		"Snapshot is read while the connection grows": seedSnapshotRace,
		"MSSValue and TunnelIndicator":                seedMSS,
		"fields of what is known":                     seedKnowledge,
		"FingerprintEvent in JSON":                    seedJSON,
	} {
		t.Run(name, test)
	}
}

func seedMakeKey(t *testing.T) {
	for _, tc := range []struct {
		src   string
		sport uint16
		dst   string
		dport uint16
		proto string
		want  string
	}{
		{client, 50123, server, 443, "tcp", "10.0.0.1:50123-192.0.2.1:443-tcp"},
		{client, 50123, server, 443, "UDP", "10.0.0.1:50123-192.0.2.1:443-udp"},
		{"2001:db8::2", 1, "2001:db8::1", 2, "tcp", "[2001:db8::1]:2-[2001:db8::2]:1-tcp"},
		{client, 2, client, 1, "tcp", "10.0.0.1:1-10.0.0.1:2-tcp"},
		{"::ffff:10.0.0.1", 1, server, 2, "icmp", "10.0.0.1:1-192.0.2.1:2-icmp"},
		{client, 0, "2001:db8::1", 0, "253", "10.0.0.1:0-[2001:db8::1]:0-253"},
		{"example.com", 1, server, 2, "tcp", ""},
		{client, 1, "", 2, "tcp", ""},
		{client, 1, server, 2, "quic", ""},
	} {
		if got := tracker.MakeKey(tc.src, tc.sport, tc.dst, tc.dport, tc.proto); got != tc.want {
			t.Errorf("MakeKey(%q, %d, %q, %d, %q) = %q, want %q", tc.src, tc.sport, tc.dst, tc.dport, tc.proto, got, tc.want)
		}
	}
	c := newConnection()
	if want := tracker.MakeKey(c.SrcIP, c.SrcPort, c.DstIP, c.DstPort, c.Protocol); c.ID != want {
		t.Errorf("a connection has the ID %q, want its key %q", c.ID, want)
	}
}

func seedMakeKeyMerges(t *testing.T) {
	there := tracker.MakeKey(client, clientPort, server, serverPort, "tcp")
	if back := tracker.MakeKey(server, serverPort, client, clientPort, "tcp"); there != back {
		t.Errorf("the directions have the keys %q and %q, want one", there, back)
	}
	if other := tracker.MakeKey(client, serverPort, server, clientPort, "tcp"); there == other {
		t.Errorf("connections with exchanged ports have one key, %q", other)
	}
}

func seedNewConnection(t *testing.T) {
	c := newConnection()
	if !c.FirstSeen.Equal(start) || !c.LastSeen.Equal(start) || c.PacketCount != 0 || c.ByteCount != 0 {
		t.Errorf("seen from %v to %v, %d packets, %d bytes, want %v and none",
			c.FirstSeen, c.LastSeen, c.PacketCount, c.ByteCount, start)
	}
	if c.SrcIP != client || c.SrcPort != clientPort || c.DstIP != server || c.DstPort != serverPort || c.Protocol != "tcp" {
		t.Errorf("got %s:%d to %s:%d by %s", c.SrcIP, c.SrcPort, c.DstIP, c.DstPort, c.Protocol)
	}
	c.Fingerprints["ja4"] = append(c.Fingerprints["ja4"], tracker.FingerprintEvent{Value: "a"})
	c.RawFPs["ja4"] = append(c.RawFPs["ja4"], tracker.FingerprintEvent{Value: "raw"})
	if got := c.LatestFingerprint("ja4"); got != "a" {
		t.Errorf("LatestFingerprint = %q, want a", got)
	}
}

func seedUpdate(t *testing.T) {
	tr := tracker.NewTracker(10)
	first := tr.Update(client, clientPort, server, serverPort, "tcp", start, 100)
	again := tr.Update(client, clientPort, server, serverPort, "tcp", start.Add(time.Second), 50)
	if first != again {
		t.Fatal("the second packet made another connection")
	}
	if first.PacketCount != 2 || first.ByteCount != 150 {
		t.Errorf("got %d packets, %d bytes, want 2, 150", first.PacketCount, first.ByteCount)
	}
	if !first.FirstSeen.Equal(start) || !first.LastSeen.Equal(start.Add(time.Second)) {
		t.Errorf("seen from %v to %v, want a second from %v", first.FirstSeen, first.LastSeen, start)
	}
	if tr.Update(client, clientPort, server, serverPort, "udp", start, 1) == first {
		t.Error("another protocol is the same connection")
	}
	for address, proto := range map[string]string{"nobody": "tcp", client: "no protocol"} {
		if c := tr.Update(address, 1, server, 2, proto, start, 1); c != nil || tr.Count() != 2 {
			t.Errorf("%s and %s made the connection %v of %d", address, proto, c, tr.Count())
		}
	}
}

func seedUpdateMerges(t *testing.T) {
	tr := tracker.NewTracker(10)
	there := tr.Update(server, serverPort, client, clientPort, "tcp", start, 100)
	back := tr.Update(client, clientPort, server, serverPort, "tcp", start, 50)
	if there != back || there.PacketCount != 2 {
		t.Fatalf("the answer is of another connection, or not counted: %d packets", there.PacketCount)
	}
	if there.SrcIP != server || there.DstPort != clientPort {
		t.Errorf("the source is %s, want that of the first packet, %s", there.SrcIP, server)
	}
}

func seedUpdateOutOfOrder(t *testing.T) {
	tr := tracker.NewTracker(10)
	open(tr, 1, "tcp", start)
	c := open(tr, 1, "tcp", start.Add(-time.Second))
	if !c.LastSeen.Equal(start) || !c.FirstSeen.Equal(start.Add(-time.Second)) || c.PacketCount != 2 {
		t.Errorf("seen from %v to %v, %d packets, want a second up to %v, 2", c.FirstSeen, c.LastSeen, c.PacketCount, start)
	}
}

func values(events []tracker.FingerprintEvent) string {
	var all []string
	for _, e := range events {
		all = append(all, e.Value)
	}
	return strings.Join(all, " ")
}

func seedDuplicates(t *testing.T) {
	c := newConnection()
	for i, value := range []string{"a", "a", "b", "a", "", "a"} {
		c.AddFingerprint("ja4", value, start.Add(time.Duration(i)), uint64(i+1))
		c.AddRawFingerprint("ja4", "raw-"+value, start, uint64(i+1))
	}
	if got := values(c.Fingerprints["ja4"]); got != "a b a" {
		t.Errorf("the history is %q, want a b a", got)
	}
	if e := c.Fingerprints["ja4"][0]; e.PacketNum != 1 || !e.SeenAt.Equal(start) {
		t.Errorf("the first value is of packet %d at %v, want packet 1 at %v", e.PacketNum, e.SeenAt, start)
	}
	if got := values(c.RawFPs["ja4"]); got != "raw-a raw-b raw-a raw- raw-a" {
		t.Errorf("the raw history is %q", got)
	}
	if got := c.LatestPacketNum("ja4"); got != 4 {
		t.Errorf("LatestPacketNum = %d, want 4", got)
	}
}

func seedLowerCase(t *testing.T) {
	c := newConnection()
	c.AddFingerprint("JA4S", "a", start, 7)
	if len(c.Fingerprints["ja4s"]) != 1 || c.LatestFingerprint("Ja4S") != "a" || c.LatestPacketNum("ja4S") != 7 {
		t.Errorf("got %v, want one value of ja4s", c.Fingerprints)
	}
}

func seedHistory(t *testing.T) {
	c := newConnection()
	const total = 5000
	for i := range total {
		c.AddFingerprint("ja4h", fmt.Sprint(i), start, uint64(i))
		c.AddRawFingerprint("ja4h", fmt.Sprint(i), start, uint64(i))
		if n := len(c.Fingerprints["ja4h"]); n != min(i+1, 1000) {
			t.Fatalf("%d values after %d", n, i+1)
		}
	}
	var want []string
	for i := range total {
		if i < 100 || i >= total-900 {
			want = append(want, fmt.Sprint(i))
		}
	}
	if got := values(c.Fingerprints["ja4h"]); got != strings.Join(want, " ") {
		t.Errorf("the history is %s", got)
	}
	if got := values(c.RawFPs["ja4h"]); got != strings.Join(want, " ") {
		t.Errorf("the raw history is %s", got)
	}
}

func seedLatestOfNothing(t *testing.T) {
	c := newConnection()
	if value, number := c.LatestFingerprint("ja4"), c.LatestPacketNum("ja4"); value != "" || number != 0 {
		t.Errorf("got %q of packet %d, want nothing", value, number)
	}
}

func seedPrimary(t *testing.T) {
	c := newConnection()
	if fpType, value := c.PrimaryFingerprint(); fpType != "" || value != "" {
		t.Errorf("got %s %s of no fingerprints", fpType, value)
	}
	// Each goes before those that were added earlier.
	for _, fpType := range []string{
		"other", "another", "ja4ls", "ja4l", "ja4ts", "ja4t", "ja4d6", "ja4d", "ja4s", "ja4x", "ja4ssh", "ja4h", "ja4",
	} {
		c.AddFingerprint(fpType, "old", start, 1)
		c.AddFingerprint(fpType, "value of "+fpType, start, 2)
		if got, value := c.PrimaryFingerprint(); got != fpType || value != "value of "+fpType {
			t.Errorf("got %s %q, want that of %s", got, value, fpType)
		}
	}
}

func seedEvictIdle(t *testing.T) {
	tr := tracker.NewTracker(10)
	tcp := open(tr, 1, "tcp", start)
	udp := open(tr, 2, "udp", start)
	for _, tc := range []struct {
		after time.Duration
		want  []*tracker.Connection
	}{
		{2 * time.Minute, nil},
		{2*time.Minute + 1, []*tracker.Connection{udp}},
		{5 * time.Minute, nil},
		{5*time.Minute + 1, []*tracker.Connection{tcp}},
	} {
		if got := tr.Evict(start.Add(tc.after)); !slices.Equal(got, tc.want) {
			t.Errorf("evicted %v after %v, want %v", got, tc.after, tc.want)
		}
	}
	if tr.Count() != 0 {
		t.Errorf("%d connections are left", tr.Count())
	}
}

func seedEvictLRU(t *testing.T) {
	tr := tracker.NewTracker(2)
	var told []*tracker.Connection
	tr.OnEvict = func(c *tracker.Connection) {
		if tr.Get(c.ID) != nil {
			t.Errorf("OnEvict is told of %s, which is still there", c.ID)
		}
		told = append(told, c)
	}
	first, second, third := open(tr, 1, "tcp", start), open(tr, 2, "tcp", start), open(tr, 3, "tcp", start)
	open(tr, 1, "tcp", start) // now the second is the least recently used one
	if tr.Count() != 3 {
		t.Errorf("there are %d connections before Evict, want 3", tr.Count())
	}
	if got := tr.Evict(start); !slices.Equal(got, []*tracker.Connection{second}) || !slices.Equal(told, got) {
		t.Errorf("evicted %v and told %v, want the second", got, told)
	}
	if tr.Get(first.ID) != first || tr.Get(second.ID) != nil || tr.Get(third.ID) != third || tr.Count() != 2 {
		t.Errorf("the wrong ones of %d are left", tr.Count())
	}
	if got := tr.Evict(start); got != nil || len(told) != 1 {
		t.Errorf("evicted %v again, told %v", got, told)
	}
	if again := open(tr, 2, "tcp", start); again == second || again.PacketCount != 1 {
		t.Error("an evicted connection came back with its counters")
	}
}

func seedEvictNilCallback(t *testing.T) {
	tr := tracker.NewTracker(0)
	open(tr, 1, "tcp", start)
	if got := tr.Evict(start); len(got) != 1 || tr.Count() != 0 {
		t.Errorf("evicted %v, %d are left, want one and none", got, tr.Count())
	}
}

func seedGet(t *testing.T) {
	tr := tracker.NewTracker(10)
	c := open(tr, 1, "tcp", start)
	if tr.Get(tracker.MakeKey(c.DstIP, c.DstPort, c.SrcIP, c.SrcPort, "tcp")) != c {
		t.Error("the connection is not found by its key")
	}
	for _, key := range []string{
		"", "-", "--", "a-b-tcp", "10.0.0.1:1-10.0.0.2:2-tcp", c.ID + "-",
		c.ID + "@", c.ID + "@1", c.ID + "@1.2.3", c.ID + "@65536.0", c.ID + "@0.256",
		strings.Replace(c.ID, "tcp", "udp", 1), strings.Replace(c.ID, "tcp", "quic", 1),
	} {
		if got := tr.Get(key); got != nil {
			t.Errorf("Get(%q) = %v, want nil", key, got)
		}
	}
}

func seedCount(t *testing.T) {
	tr := tracker.NewTracker(10)
	for i := range 5 {
		if tr.Count() != i {
			t.Fatalf("Count = %d, want %d", tr.Count(), i)
		}
		open(tr, i, "tcp", start)
		open(tr, i, "tcp", start)
	}
}

func seedAll(t *testing.T) {
	tr := tracker.NewTracker(10)
	first, second := open(tr, 1, "tcp", start), open(tr, 2, "udp", start)
	all := tr.All()
	if len(all) != 2 || !reflect.DeepEqual(all, []*tracker.Connection{first.Snapshot(), second.Snapshot()}) {
		t.Fatalf("All = %v, want copies of %v, %v", all, first, second)
	}
	first.AddFingerprint("ja4", "a", start, 1)
	if all[0] == first || len(all[0].Fingerprints) != 0 {
		t.Error("All handed out the connection itself")
	}
	if got := tracker.NewTracker(1).All(); len(got) != 0 {
		t.Errorf("All = %v of an empty table", got)
	}
}

func seedSnapshot(t *testing.T) {
	c := newConnection()
	c.AddFingerprint("ja4", "a", start, 1)
	c.AddRawFingerprint("ja4", "raw", start, 1)
	c.IsNew = true
	c.Evaluate(&tracker.Facts{})
	s := c.Snapshot()
	if s == c || !reflect.DeepEqual(s, c) {
		t.Fatalf("the snapshot is %+v, want a copy of %+v", s, c)
	}
	c.Fingerprints["ja4"][0].Value = "b"
	c.RawFPs["ja4"][0].Value = "b"
	c.Anomalies[0] = "b"
	c.AddFingerprint("ja4s", "c", start, 1)
	if s.LatestFingerprint("ja4") != "a" || s.RawFPs["ja4"][0].Value != "raw" ||
		s.Anomalies[0] == "b" || len(s.Fingerprints) != 1 {
		t.Errorf("the snapshot changed with the connection: %+v", s)
	}
}

// seedSnapshotRace is for the race detector.
func seedSnapshotRace(t *testing.T) {
	c := newConnection()
	var readers sync.WaitGroup
	for i := range 50 {
		for j := range 50 {
			c.AddFingerprint("ja4h", fmt.Sprint(i, j), start, uint64(i))
			c.AddRawFingerprint("ja4h", fmt.Sprint(i, j), start, uint64(i))
		}
		s := c.Snapshot()
		readers.Go(func() {
			if want := fmt.Sprint(i, 49); s.LatestFingerprint("ja4h") != want || s.RawFPs["ja4h"][0].Value != "0 0" {
				t.Errorf("the snapshot ends with %q, want %q", s.LatestFingerprint("ja4h"), want)
			}
		})
	}
	readers.Wait()
}

func seedMSS(t *testing.T) {
	c := newConnection()
	c.SetMSS(1380)
	if c.MSSValue != 1380 || c.TunnelIndicator != "possible WireGuard" {
		t.Errorf("got %d, %q, want 1380, possible WireGuard", c.MSSValue, c.TunnelIndicator)
	}
	v6 := tracker.NewConnection("2001:db8::1", 1, "2001:db8::2", 443, "tcp", start)
	v6.SetMSS(1440)
	if v6.MSSValue != 1440 || v6.TunnelIndicator != "" {
		t.Errorf("got %d, %q over IPv6, want 1440 and no tunnel", v6.MSSValue, v6.TunnelIndicator)
	}
}

func seedKnowledge(t *testing.T) {
	c := newConnection()
	if c.IdentifiedApp != "" || c.IsKnownBad || c.IsNew || c.MSSValue != 0 || c.TunnelIndicator != "" ||
		c.SSHSessionType != "" || c.Anomalies != nil {
		t.Errorf("a new connection knows something: %+v", c)
	}
	c.IdentifiedApp, c.IsKnownBad, c.IsNew, c.SSHSessionType = "curl", true, true, "Reverse SSH Session"
	found := c.Evaluate(&tracker.Facts{})
	if want := []string{"known_bad", "first_seen", "reverse_ssh"}; !slices.Equal(found, want) || len(c.Anomalies) != len(want) {
		t.Errorf("found %v, %q, want %v", found, c.Anomalies, want)
	}
}

func seedJSON(t *testing.T) {
	got, err := json.Marshal(tracker.FingerprintEvent{Value: "a", SeenAt: start, PacketNum: 3})
	if want := `{"value":"a","seen_at":"2026-05-09T12:00:00Z","packet_num":3}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
