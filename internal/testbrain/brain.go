// Package testbrain is a Brain for tests: it takes FlowEvents as the published one does, just as strictly, keeps what
// it received, and fails in the ways that a test asks for.
package testbrain

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"mime"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

const ndjson = "application/x-ndjson"

// Options says how a Brain behaves. Its zero value takes single events, arrays and newline-delimited JSON.
type Options struct {
	// Single refuses arrays and newline-delimited JSON with 422, as the published Brain does.
	Single bool

	// OnEvent receives every event in place of Events, one at a time, duplicates left out. It must not call the Brain.
	OnEvent func(*Event)

	// Answer is asked about every request, after its body was read; nil lets the Brain answer for itself. Several
	// requests may ask at once.
	Answer func(*Request) *Answer

	// Listen makes the listener, for instance in another network namespace; nil means net.Listen.
	Listen func(network, addr string) (net.Listener, error)

	// Addr is where to listen; empty means a free port of 127.0.0.1.
	Addr string
}

// Request is what is known of one POST.
type Request struct {
	Number int // from 1, in the order in which bodies were read
	Header http.Header
	Body   [sha256.Size]byte // digest of the body as it was sent
	Events int               // in it, whether they were taken or not; 0 if the body was not valid
	Status int               // of the answer; 0 while there is none, or if the connection was cut
	Detail string            // why it was refused; else empty
}

// Answer is a fault that a test asks for.
type Answer struct {
	Delay  time.Duration // to wait first, unless the client or the Brain goes away
	Cut    bool          // close the connection without an answer
	Status int           // answer so; 0 leaves the answer, and what happens to the events, to the Brain
	Header http.Header   // sent with Status
	Body   string        // sent with Status
	Store  bool          // with Cut or Status: take the events all the same
}

// Brain is an HTTP server for FlowEvents. All its methods are safe for concurrent use, but for Start and Stop.
type Brain struct {
	options Options
	zstd    *zstd.Decoder
	addr    string
	server  *http.Server
	served  chan error

	mu          sync.Mutex
	requests    []Request
	events      []Event
	received    int // events without duplicates
	duplicates  []Event
	seen        map[string]struct{} // event ids
	connections int
}

// New starts a Brain that stops at the test's end.
func New(t testing.TB, options Options) *Brain {
	t.Helper()
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if options.Listen == nil {
		options.Listen = net.Listen
	}
	if options.Addr == "" {
		options.Addr = "127.0.0.1:0"
	}
	b := &Brain{options: options, zstd: decoder, addr: options.Addr, seen: map[string]struct{}{}}
	b.Start(t)
	t.Cleanup(decoder.Close)
	t.Cleanup(func() { b.Stop(t) })
	return b
}

// Start makes a stopped Brain listen again where it did. What it received before is kept.
func (b *Brain) Start(t testing.TB) {
	t.Helper()
	listener, err := b.options.Listen("tcp", b.addr)
	if err != nil {
		t.Fatalf("start Brain: %v", err)
	}
	b.addr = listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /ingest", b.ingest)
	quiet := log.New(io.Discard, "", 0) // connections that a test breaks
	b.server = &http.Server{Handler: mux, ErrorLog: quiet, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.connections++
		}
	}}
	b.served = make(chan error, 1)
	go func() { b.served <- b.server.Serve(listener) }()
}

// Stop cuts every connection and takes no more. Stopping a stopped Brain does nothing.
func (b *Brain) Stop(t testing.TB) {
	t.Helper()
	if b.server == nil {
		return
	}
	if err := b.server.Close(); err != nil {
		t.Errorf("stop Brain: %v", err)
	}
	<-b.served
	b.server = nil
}

// URL is where events are posted to.
func (b *Brain) URL() string { return "http://" + b.addr + "/ingest" }

// Events returns the events received so far, without duplicates, in the order of their arrival. With Options.OnEvent
// there are none.
func (b *Brain) Events() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

// Received returns the number of events received so far, without duplicates.
func (b *Brain) Received() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received
}

// Duplicates returns the events whose event_id had been received before. An event without one is never a duplicate.
func (b *Brain) Duplicates() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.duplicates)
}

// Requests returns the requests received so far.
func (b *Brain) Requests() []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

// Connections returns the number of connections accepted so far.
func (b *Brain) Connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.connections
}

// WaitFor waits until at least n events were received. The test fails if they do not come in time.
func (b *Brain) WaitFor(t testing.TB, n int, timeout time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(timeout); b.Received() < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().Before(deadline) {
			continue
		}
		last := "none"
		if requests := b.Requests(); len(requests) > 0 {
			r := requests[len(requests)-1]
			last = fmt.Sprintf("number %d, %d events, status %d %s", r.Number, r.Events, r.Status, r.Detail)
		}
		t.Fatalf("waited %v for %d events, received %d; last request: %s", timeout, n, b.Received(), last)
	}
}

func (b *Brain) ingest(w http.ResponseWriter, r *http.Request) {
	request := Request{Header: r.Header}
	status, events := b.read(r, &request)
	b.record(&request)

	answer := &Answer{}
	if b.options.Answer != nil {
		if a := b.options.Answer(&request); a != nil {
			answer = a
		}
	}
	if !wait(r, answer.Delay) {
		return
	}
	scripted := answer.Cut || answer.Status != 0
	if status == http.StatusOK && (answer.Store || !scripted) {
		b.store(events)
	}
	switch {
	case answer.Cut:
		cut(w)
	case answer.Status != 0:
		maps.Copy(w.Header(), answer.Header)
		b.respond(w, &request, answer.Status, answer.Body)
	case status != http.StatusOK:
		b.respond(w, &request, status, request.Detail)
	default:
		b.respond(w, &request, status, fmt.Sprintf(`{"received":%d}`, len(events)))
	}
}

// record numbers a request and keeps it.
func (b *Brain) record(request *Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	request.Number = len(b.requests) + 1
	b.requests = append(b.requests, *request)
}

func (b *Brain) respond(w http.ResponseWriter, request *Request, status int, body string) {
	b.mu.Lock()
	b.requests[request.Number-1].Status = status
	b.mu.Unlock()
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a client that went away is no concern of the Brain's
}

// read returns the status that the request deserves, and its events.
func (b *Brain) read(r *http.Request, request *Request) (int, []Event) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		request.Detail = err.Error()
		return http.StatusBadRequest, nil
	}
	request.Body = sha256.Sum256(body)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "":
	case "gzip":
		body, err = gunzip(body)
	case "zstd":
		body, err = b.zstd.DecodeAll(body, nil)
	default:
		request.Detail = "content encoding is not known"
		return http.StatusUnsupportedMediaType, nil
	}
	if err != nil {
		request.Detail = err.Error()
		return http.StatusBadRequest, nil
	}
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || contentType != "application/json" && contentType != ndjson {
		request.Detail = "content type is not known"
		return http.StatusUnsupportedMediaType, nil
	}
	events, faults := parseBody(body, contentType, b.options.Single)
	if len(faults) > 0 {
		detail, _ := json.Marshal(map[string]any{"detail": faults[:min(len(faults), 10)]}) // strings and numbers only
		request.Detail = string(detail)
		return http.StatusUnprocessableEntity, nil
	}
	request.Events = len(events)
	return http.StatusOK, events
}

func gunzip(body []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func (b *Brain) store(events []Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range events {
		e := &events[i]
		if _, ok := b.seen[e.EventID]; ok {
			b.duplicates = append(b.duplicates, *e)
			continue
		}
		if e.EventID != "" {
			b.seen[e.EventID] = struct{}{}
		}
		b.received++
		if b.options.OnEvent != nil {
			b.options.OnEvent(e)
		} else {
			b.events = append(b.events, *e)
		}
	}
}

// wait reports whether the request is still of interest after a delay.
func wait(r *http.Request, delay time.Duration) bool {
	if delay == 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// cut closes the connection under an answer that was not given.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}
