package tracker_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/internal/tracker"
)

// known is what the model knows of a connection.
type known struct {
	packets uint64
	last    time.Time
	swept   time.Time // when Evict was last called before the last packet
}

// model is what a Tracker shall be: a map, and the keys in the order of their last packets.
type model struct {
	tracker *tracker.Tracker
	max     int
	conns   map[string]known
	order   []string
	now     time.Time
	swept   time.Time
	told    []string
}

var modelIdle = map[string]time.Duration{"tcp": 300 * time.Second, "udp": 120 * time.Second}

func (m *model) Update(t *rapid.T) {
	number := rapid.IntRange(0, 30).Draw(t, "number")
	proto := rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "proto")
	ts := m.now.Add(time.Duration(rapid.IntRange(-100, 10).Draw(t, "seconds")) * time.Second)
	c := open(m.tracker, number, proto, ts)

	k := m.conns[c.ID]
	k.packets, k.swept = k.packets+1, m.swept
	if k.last.IsZero() || ts.After(k.last) {
		k.last = ts
	}
	m.conns[c.ID] = k
	m.order = append(slices.DeleteFunc(m.order, func(id string) bool { return id == c.ID }), c.ID)
}

func (m *model) Evict(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
	var want []string
	for _, id := range m.order {
		k := m.conns[id]
		if m.now.Sub(k.swept) > modelIdle["udp"] && m.now.Sub(k.last) > modelIdle[id[len(id)-3:]] {
			want = append(want, id)
		}
	}
	left := slices.DeleteFunc(slices.Clone(m.order), func(id string) bool { return slices.Contains(want, id) })
	want = append(want, left[:max(0, len(left)-m.max)]...)
	for _, id := range want {
		delete(m.conns, id)
	}
	m.order = left[max(0, len(left)-m.max):]

	m.told, m.swept = nil, m.now
	var got []string
	for _, c := range m.tracker.Evict(m.now) {
		got = append(got, c.ID)
	}
	if !slices.Equal(got, want) || !slices.Equal(m.told, want) {
		t.Fatalf("evicted %q and told %q, want %q", got, m.told, want)
	}
}

// Check compares all that can be seen of the table.
func (m *model) Check(t *rapid.T) {
	var order []string
	for _, c := range m.tracker.All() {
		order = append(order, c.ID)
		if k := m.conns[c.ID]; c.PacketCount != k.packets || !c.LastSeen.Equal(k.last) {
			t.Fatalf("%s has %d packets up to %v, want %d up to %v", c.ID, c.PacketCount, c.LastSeen, k.packets, k.last)
		}
		if m.tracker.Get(c.ID) == nil {
			t.Fatalf("%s is not found", c.ID)
		}
	}
	if !slices.Equal(order, m.order) || m.tracker.Count() != len(m.conns) {
		t.Fatalf("the table has %d, %q, want %q", m.tracker.Count(), order, slices.Sorted(maps.Keys(m.conns)))
	}
}

func TestTrackerModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{max: rapid.IntRange(0, 20).Draw(t, "max"), conns: map[string]known{}, now: start}
		m.tracker = tracker.NewTracker(m.max)
		m.tracker.OnEvict = func(c *tracker.Connection) { m.told = append(m.told, c.ID) }
		t.Repeat(map[string]func(*rapid.T){"update": m.Update, "evict": m.Evict, "": m.Check})
	})
}
