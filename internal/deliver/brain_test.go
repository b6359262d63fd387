package deliver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap/zaptest/observer"
)

// brain is a strict server of events.
type brain struct {
	*httptest.Server
	network *network                                                             // in memory; nil: the system's
	singles bool                                                                 // refuses arrays
	answer  func(w http.ResponseWriter, r *http.Request, number int) (done bool) // may answer a request before its body is judged

	mu       sync.Mutex
	problems []error
	requests []request
	got      []int // the events of what was accepted
	dialled  int
}

type request struct {
	key, contentType string
	body             []byte // as sent
}

func newBrain(t *testing.T) *brain {
	b := new(brain)
	b.start(t, httptest.NewUnstartedServer(b))
	return b
}

// newMemoryBrain is newBrain within synctest. For tests that count connections: net/http gives one up that it cannot use
// again within 50 ms, which on a busy machine are soon over.
func newMemoryBrain(t *testing.T) *brain {
	b := &brain{network: new(network)}
	server := httptest.NewUnstartedServer(b)
	listener, err := b.network.listen("", "")
	if err = errors.Join(err, server.Listener.Close()); err != nil {
		t.Fatal(err)
	}
	server.Listener = listener
	b.start(t, server)
	return b
}

func (b *brain) start(t *testing.T, server *httptest.Server) {
	b.Server = server
	b.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.dialled++
		}
	}
	b.Start()
	t.Cleanup(func() {
		b.Close()
		if len(b.problems) > 0 {
			t.Errorf("the Brain met %d problems, first: %v", len(b.problems), b.problems[0])
		}
	})
}

func (b *brain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	b.mu.Lock()
	b.problem(err)
	b.requests = append(b.requests, request{r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"), body})
	number := len(b.requests)
	b.mu.Unlock()
	if r.Method != http.MethodPost || r.UserAgent() != "weir/test" || r.ContentLength != int64(len(body)) {
		b.note(fmt.Errorf("%s by %q with %d bytes of %d", r.Method, r.UserAgent(), len(body), r.ContentLength))
	}
	if b.answer != nil && b.answer(w, r, number) {
		return
	}
	plain, err := unpack(r.Header.Get("Content-Encoding"), body)
	b.note(err)
	if b.singles && bytes.HasPrefix(plain, []byte("[")) {
		http.Error(w, `{"detail":[{"type":"model_attributes_type"}]}`, http.StatusUnprocessableEntity)
		return
	}
	b.take(r.Header.Get("Content-Type"), plain)
	fmt.Fprint(w, `{"status":"ok"}`)
}

func (b *brain) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problem(err)
}

// problem is note with the lock held.
func (b *brain) problem(err error) {
	if err != nil {
		b.problems = append(b.problems, err)
	}
}

func (b *brain) take(contentType string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if contentType == "application/x-ndjson" {
		sequences, err := readLines(body)
		b.problem(err)
		b.got = append(b.got, sequences...)
		return
	}
	var objects []json.RawMessage
	if bytes.HasPrefix(body, []byte("[")) {
		b.problem(json.Unmarshal(body, &objects))
	} else {
		objects = append(objects, body)
	}
	for _, object := range objects {
		sequence, err := readEvent(object)
		b.problem(err)
		b.got = append(b.got, sequence)
	}
}

func unpack(coding string, body []byte) ([]byte, error) {
	switch coding {
	case "":
		return body, nil
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case "zstd":
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return r.DecodeAll(body, nil)
	default:
		return nil, fmt.Errorf("unknown coding %q", coding)
	}
}

// toBrain returns a configuration that delivers to b.
func toBrain(b *brain) Config {
	cfg := testConfig()
	cfg.URL = parseURL(b.URL + "/ingest")
	return cfg
}

// deliverAll delivers events numbered from 0 and returns when all is settled.
func (b *brain) deliverAll(t *testing.T, cfg Config, events int) (*Deliverer, *observer.ObservedLogs) {
	t.Helper()
	d, logs := newTest(t, cfg)
	if b.network != nil {
		d.sink.(*httpSink).dial = b.network.dial
	}
	r := run(d)
	addEvents(d, 0, events)
	d.Close()
	r.wait(t)
	return d, logs
}
