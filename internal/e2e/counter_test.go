package e2e

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/testnet"
)

// counter is a Brain that reads little more of an event than its numbers: it takes several times as many as testbrain's, and
// remembers millions of them.
type counter struct {
	server *http.Server
	url    string

	mu       sync.Mutex
	away     bool                        // answers 503, and takes nothing
	seen     map[string]map[uint64]int64 // packets of each event: by what comes first in its ID, and by its number
	events   int                         // duplicates left out, and so below
	packets  int64
	bytes    int64
	watched  map[string]int64 // packets of the flows that were put in here, by flow_id
	repeated int              // events that came again
	newest   time.Time        // the latest packet that came in an event, accepted or not
	back     time.Time        // when something was accepted for the first time since it was last away
	latest   time.Duration    // the longest that an event took whose last packet was after that
	err      error
}

// newCounter starts a Brain on a namespace's loopback, until the test's end.
func newCounter(t testing.TB, namespace *testnet.Namespace) *counter {
	t.Helper()
	c := &counter{seen: map[string]map[uint64]int64{}, watched: map[string]int64{}}
	var listener net.Listener
	err := namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.url = "http://" + listener.Addr().String() + "/ingest"
	c.server = &http.Server{Handler: c}
	served := make(chan error, 1)
	go func() { served <- c.server.Serve(listener) }()
	t.Cleanup(func() {
		c.server.Close()
		<-served
	})
	return c
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := read(r)
	if err != nil {
		return // it was killed
	}
	status, err := c.take(body)
	if err != nil {
		c.mu.Lock()
		c.err = errors.Join(c.err, err)
		c.mu.Unlock()
	}
	w.WriteHeader(status)
}

func read(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") == "gzip" {
		plain, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(plain)
	}
	body := bytes.NewBuffer(make([]byte, 0, r.ContentLength+bytes.MinRead))
	_, err := io.Copy(body, r.Body)
	return body.Bytes(), err
}

// numbers are what a counter reads of an event.
type numbers struct {
	flow           []byte // its flow_id
	run            string // what the ID begins with
	number         uint64 // what it ends with
	packets, bytes int64
	last           time.Time
}

// take returns the status of the answer.
func (c *counter) take(body []byte) (status int, err error) {
	var list []numbers
	for bytes.IndexByte(body, '{') >= 0 {
		n, rest, err := readNumbers(body)
		if err != nil {
			return http.StatusUnprocessableEntity, err
		}
		list = append(list, n)
		body = rest
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i := range list {
		if list[i].last.After(c.newest) {
			c.newest = list[i].last
		}
	}
	if c.away {
		return http.StatusServiceUnavailable, nil
	}
	if c.back.IsZero() {
		c.back = now
	}
	for i := range list {
		if err := c.add(&list[i], now); err != nil {
			return http.StatusUnprocessableEntity, err
		}
	}
	return http.StatusOK, nil
}

func (c *counter) add(n *numbers, now time.Time) error {
	run := c.seen[n.run]
	if run == nil {
		run = map[uint64]int64{}
		c.seen[n.run] = run
	}
	if packets, ok := run[n.number]; ok {
		if packets != n.packets {
			return fmt.Errorf("event %s-%016x had %d packets, and has %d now", n.run, n.number, packets, n.packets)
		}
		c.repeated++
		return nil
	}
	run[n.number] = n.packets
	if packets, ok := c.watched[string(n.flow)]; ok {
		c.watched[string(n.flow)] = packets + n.packets
	}
	c.events++
	c.packets += n.packets
	c.bytes += n.bytes
	if n.last.After(c.back) {
		c.latest = max(c.latest, now.Sub(n.last))
	}
	return nil
}

// readNumbers reads the next event, and returns what follows it. The members come in the order in which weir writes them.
func readNumbers(body []byte) (n numbers, rest []byte, err error) {
	rest = body
	member := func(name, end string) []byte {
		_, after, found := bytes.Cut(rest, []byte(`"`+name+`":`))
		value, left, ended := bytes.Cut(after, []byte(end))
		if !found || !ended {
			err = fmt.Errorf("no %s in %.500q", name, body)
		}
		rest = left
		return bytes.TrimPrefix(value, []byte(`"`))
	}
	n.flow = member("flow_id", `",`)
	last, packets, size := member("timestamp", `",`), member("packet_count", ","), member("byte_count", ",")
	id := member("event_id", `",`)
	_, rest, _ = bytes.Cut(rest, []byte("}"))
	if err != nil {
		return n, nil, err
	}
	run, number, _ := strings.Cut(string(id), "-")
	n.run = run
	var errs [4]error
	n.number, errs[0] = strconv.ParseUint(number, 16, 64)
	n.packets, errs[1] = strconv.ParseInt(string(packets), 10, 64)
	n.bytes, errs[2] = strconv.ParseInt(string(size), 10, 64)
	n.last, errs[3] = time.Parse(time.RFC3339Nano, string(last))
	return n, rest, errors.Join(errs[:]...)
}

// goAway has nothing accepted, or again.
func (c *counter) goAway(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
	c.back, c.latest = time.Time{}, 0
}

// received returns how many events came, duplicates left out.
func (c *counter) received() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events
}

// news says whether an event came, accepted or not, with a packet of so late.
func (c *counter) news(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest.After(since)
}

// cameBack returns when something was first accepted since it was away, zero before, and how late the latest event came of what
// was sent since then.
func (c *counter) cameBack() (at time.Time, latest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.back, c.latest
}

// check compares what came, duplicates left out, with what was sent.
func (c *counter) check(t testing.TB, packets, bytes uint64) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		t.Error(c.err)
	}
	t.Logf("%d packets in %d events, %d of which came again", c.packets, c.events, c.repeated)
	if c.packets != int64(packets) || c.bytes != int64(bytes) {
		t.Errorf("events sum to %d packets and %d bytes, want %d and %d", c.packets, c.bytes, packets, bytes)
	}
}
