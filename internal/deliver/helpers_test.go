package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"weir/internal/flow"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testEvent returns an event that is told from others by its sequence.
func testEvent(sequence int) *flow.Event {
	end := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	return &flow.Event{
		ID:           flow.EventID{Instance: 7, Sequence: uint64(sequence)},
		Src:          netip.MustParseAddrPort("10.0.0.5:51000"),
		Dst:          netip.MustParseAddrPort("93.184.216.34:443"),
		Protocol:     6,
		Interface:    strconv.Itoa(sequence),
		Hostname:     "node\n1", // escaped, it must not end a line
		Start:        end.Add(-time.Second),
		End:          end,
		Counts:       flow.Counts{Packets: 10, Bytes: 1000},
		SamplingRate: 1,
	}
}

// testBatch returns a batch of events numbered from 0.
func testBatch(events int) *Batch {
	b := &Batch{ID: "id", Events: events}
	for i := range events {
		b.Lines = append(testEvent(i).AppendJSON(b.Lines), '\n')
	}
	return b
}

func testConfig() Config {
	return Config{
		BatchSize:      10,
		SendInterval:   5 * time.Second,
		Format:         FormatAuto,
		Compression:    CompressionNone,
		QueueMaxBytes:  1 << 20,
		Concurrency:    1,
		BacklogShare:   80,
		RequestTimeout: 10 * time.Second,
		UserAgent:      "weir/test",
		Stdout:         io.Discard,
	}
}

func remoteConfig() Config {
	cfg := testConfig()
	cfg.URL = parseURL("http://brain")
	return cfg
}

func newTest(t testing.TB, cfg Config) (*Deliverer, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	d, err := New(cfg, zap.New(core), prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return d, logs
}

func addEvents(d *Deliverer, from, to int) {
	for i := from; i < to; i++ {
		d.Add(testEvent(i))
	}
}

// running is a Run in the background.
type running struct {
	stop context.CancelFunc
	done chan error
}

// run opens d and runs it.
func run(d *Deliverer) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan error, 1)}
	if err := d.Open(); err != nil {
		r.done <- err
		return r
	}
	go func() { r.done <- d.Run(ctx) }()
	return r
}

func (r *running) wait(t *testing.T) {
	t.Helper()
	defer r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(time.Hour): // of fake time; in real time the test's own limit comes first
		t.Fatal("Run did not return within an hour")
	}
}

// eventually polls, for what happens in other goroutines and real time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting: %s", what)
		}
	}
}

// books is what the metrics say. Fields that are left out are 0.
type books struct {
	delivered, held, recovered, quarantined                                                     int
	queueFull, spoolFull, expired, unreadable, shutdown, rejected, tooLarge                     int // dropped
	batchDelivered, batchPartial, batchDropped                                                  int
	retryConnection, retryTimeout, retryThrottled, retryServer, retryAuth, retryLarge, retryWrt int
	retryRedirect, retryStatus                                                                  int
}

func readBooks(d *Deliverer) books {
	value := func(c prometheus.Collector) int { return int(testutil.ToFloat64(c)) }
	m := d.metrics
	_, held := d.queue.held()
	return books{
		delivered: value(m.delivered), held: held, recovered: value(m.recovered), quarantined: value(m.quarantined),
		queueFull: value(m.dropped[reasonQueueFull]), spoolFull: value(m.dropped[reasonSpoolFull]),
		expired: value(m.dropped[reasonExpired]), unreadable: value(m.dropped[reasonUnreadable]),
		shutdown: value(m.dropped[reasonShutdown]), rejected: value(m.dropped[reasonRejected]),
		tooLarge:       value(m.dropped[reasonTooLarge]),
		batchDelivered: value(m.batches[outcomeDelivered]), batchPartial: value(m.batches[outcomePartial]),
		batchDropped:    value(m.batches[outcomeDropped]),
		retryConnection: value(m.retries[causeConnection]), retryTimeout: value(m.retries[causeTimeout]),
		retryThrottled: value(m.retries[causeThrottled]), retryServer: value(m.retries[causeServerError]),
		retryAuth: value(m.retries[causeUnauthorized]), retryLarge: value(m.retries[causeTooLarge]),
		retryRedirect: value(m.retries[causeRedirect]), retryStatus: value(m.retries[causeStatus]), retryWrt: value(m.retries[causeWrite]),
	}
}

// events returns the number of events that the books account for, less those of an earlier run.
func (b books) events() int {
	return b.delivered + b.held + b.queueFull + b.spoolFull + b.expired + b.unreadable + b.shutdown + b.rejected +
		b.tooLarge - b.recovered
}

func wantBooks(t *testing.T, d *Deliverer, want books) {
	t.Helper()
	if got := readBooks(d); got != want {
		t.Errorf("books:\n got %+v\nwant %+v", got, want)
	}
	if bytes, events := d.queue.held(); (bytes == 0) != (events == 0) {
		t.Errorf("%d bytes of %d events held", bytes, events)
	}
}

// fakeSink keeps what it accepts.
type fakeSink struct {
	answer func(ctx context.Context, b *Batch) error // nil accepts all
	one    bool
	opened error

	mu     sync.Mutex
	tried  []string // batch IDs
	got    []int    // sequence numbers of the events accepted
	sizes  []int    // events of the batches accepted
	closed bool
}

func (s *fakeSink) open() error  { return s.opened }
func (s *fakeSink) single() bool { return s.one }
func (s *fakeSink) close() error { s.closed = true; return nil }

func (s *fakeSink) send(ctx context.Context, b *Batch) error {
	s.mu.Lock()
	s.tried = append(s.tried, b.ID)
	s.mu.Unlock()
	if s.answer != nil {
		if err := s.answer(ctx, b); err != nil {
			return err
		}
	}
	sequences, err := readLines(b.Lines)
	if err != nil || len(sequences) != b.Events {
		return fmt.Errorf("batch of %d events has the events %v: %w", b.Events, sequences, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, sequences...)
	s.sizes = append(s.sizes, b.Events)
	return nil
}

// readLines returns the sequence numbers of events in NDJSON.
func readLines(lines []byte) (sequences []int, err error) {
	for line := range bytes.Lines(lines) {
		sequence, err := readEvent(line)
		if err != nil {
			return nil, err
		}
		sequences = append(sequences, sequence)
	}
	return sequences, nil
}

func readEvent(object []byte) (sequence int, err error) {
	var e struct {
		Interface string `json:"interface"`
		Hostname  string `json:"hostname"`
	}
	if err := json.Unmarshal(object, &e); err != nil {
		return 0, err
	}
	if e.Hostname != "node\n1" {
		return 0, fmt.Errorf("hostname is %q", e.Hostname)
	}
	return strconv.Atoi(e.Interface)
}

// sequence returns the numbers in [from, to).
func sequence(from, to int) (s []int) {
	for i := from; i < to; i++ {
		s = append(s, i)
	}
	return s
}

// parseURL takes a URL that is valid.
func parseURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}
