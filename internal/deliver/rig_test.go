package deliver

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"weir/internal/spool"
	"weir/internal/testbrain"
	"weir/internal/testdisk"
)

// network connects a Brain with the delivery in memory, so that tests of minutes run by the clock of synctest.
type network struct {
	mu       sync.Mutex
	listener *pipeListener // nil while nobody listens
	fault    error         // of dialling
	dials    int
}

var errRefused = errors.New("connection refused")

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials++
	listener, fault := n.listener, n.fault
	n.mu.Unlock()
	if fault != nil {
		return nil, fault
	}
	if listener == nil {
		return nil, errRefused
	}
	one, other := net.Pipe()
	client, server := newBuffered(one), newBuffered(other)
	select {
	case listener.conns <- server:
		return client, nil
	case <-listener.closed:
		fault = errRefused
	case <-ctx.Done():
		fault = ctx.Err()
	}
	return nil, errors.Join(fault, client.Close(), server.Close())
}

// buffered is an end of a pipe to which a write does not wait for the reader, as on a socket.
type buffered struct {
	net.Conn
	writes chan []byte
	closed chan struct{}
	once   sync.Once
}

func newBuffered(conn net.Conn) *buffered {
	b := &buffered{Conn: conn, writes: make(chan []byte, 1000), closed: make(chan struct{})}
	go b.pump()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	select {
	case <-b.closed:
		return 0, net.ErrClosed
	case b.writes <- bytes.Clone(p):
		return len(p), nil
	}
}

// Close lets what was written arrive, if it is read soon.
func (b *buffered) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
}

func (b *buffered) pump() {
	defer b.Conn.Close()
	for {
		select {
		case p := <-b.writes:
			if _, err := b.Conn.Write(p); err != nil {
				b.once.Do(func() { close(b.closed) })
				return
			}
		case <-b.closed:
			if len(b.writes) == 0 {
				return
			}
		}
	}
}

// listen makes later dials lead here.
func (n *network) listen(_, _ string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	return n.listener, nil
}

func (n *network) dialled() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

func (n *network) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = err
}

type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

// rig is a delivery by a spool to a Brain, with a disk and a network that can fail.
type rig struct {
	*Deliverer
	*running
	cfg     Config
	disk    *testdisk.Disk
	network *network
	brain   *testbrain.Brain
	logs    *observer.ObservedLogs
	added   int
}

// newRig starts a delivery of arrays of 10 events to a Brain that is up.
func newRig(t *testing.T, options testbrain.Options, change func(*Config)) *rig {
	t.Helper()
	network := new(network)
	options.Listen = network.listen
	return newRigOn(t, network, options, change)
}

// newRigOn is newRig with a Brain that listens as options say.
func newRigOn(t *testing.T, network *network, options testbrain.Options, change func(*Config)) *rig {
	t.Helper()
	r := &rig{cfg: testConfig(), disk: testdisk.New(), network: network}
	r.brain = testbrain.New(t, options)
	dir := filepath.Join(t.TempDir(), "spool")
	r.cfg.URL, r.cfg.Format, r.cfg.SendInterval = parseURL(r.brain.URL()), FormatArray, time.Second
	r.cfg.Spool = &spool.Config{Dir: dir, MaxBytes: 1 << 30, Sync: spool.Never, FS: r.disk}
	r.cfg.QuarantinePath = filepath.Join(t.TempDir(), "quarantine.ndjson")
	if change != nil {
		change(&r.cfg)
	}
	r.start(t)
	return r
}

// start begins a life of the agent.
func (r *rig) start(t *testing.T) {
	t.Helper()
	r.Deliverer, r.logs = newTest(t, r.cfg)
	r.sink.(*httpSink).dial = r.network.dial
	r.running = run(r.Deliverer)
}

// finish ends a life of the agent, and returns how long that took.
func (r *rig) finish(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	r.Close()
	r.wait(t)
	return time.Since(begin)
}

// add makes so many events more.
func (r *rig) add(events int) {
	addEvents(r.Deliverer, r.added, r.added+events)
	r.added += events
}

// addFor makes 10 events a second.
func (r *rig) addFor(seconds int) {
	for range seconds {
		r.add(10)
		time.Sleep(time.Second)
	}
}

// wantAll holds that the Brain has every event, and had so many more than once.
func (r *rig) wantAll(t *testing.T, duplicates int) {
	t.Helper()
	if got := r.brain.Received(); got != r.added {
		t.Errorf("the Brain has %d events of %d", got, r.added)
	}
	if got := len(r.brain.Duplicates()); got != duplicates {
		t.Errorf("the Brain got %d events again, want %d", got, duplicates)
	}
}
