package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// pair is a client's namespace and a server's, where weir runs, joined by a veth pair.
type pair struct {
	client, server         *testnet.Namespace
	clientLink, serverLink *testnet.Link
}

func newPair(t *testing.T) pair {
	t.Helper()
	return newPairOf(t, 1500)
}

func newPairOf(t *testing.T, mtu int) pair {
	t.Helper()
	p := pair{client: testnet.NewNamespace(t), server: testnet.NewNamespace(t)}
	p.clientLink, p.serverLink = testnet.Veth(t,
		testnet.End{Namespace: p.client, Name: "client", Addrs: []string{"10.9.0.1/24", "fd09::1/64"}, MTU: mtu},
		testnet.End{Namespace: p.server, Name: "server", Addrs: []string{"10.9.0.2/24", "fd09::2/64"}, MTU: mtu})
	return p
}

// listen opens a TCP listener in the server's namespace and handles its connections until the test ends.
func (p pair) listen(t *testing.T, addr string, handle func(*net.TCPConn)) string {
	t.Helper()
	var listener net.Listener
	err := p.server.Do(func() (err error) {
		listener, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() { handle(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		served.Wait()
	})
	return listener.Addr().String()
}

// dial opens a connection from the client's namespace.
func (p pair) dial(addr string) (conn *net.TCPConn, err error) {
	err = p.client.Do(func() error {
		c, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err == nil {
			conn = c.(*net.TCPConn)
		}
		return err
	})
	return conn, err
}

// exchange is one connection: a request of so many bytes, an answer of as many less one, and an orderly close by the
// client. It returns the client's address.
func (p pair) exchange(addr string, size int) (string, error) {
	conn, err := p.dial(addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, size)); err != nil {
		return "", fmt.Errorf("send request: %w", err)
	}
	if err := conn.CloseWrite(); err != nil {
		return "", fmt.Errorf("end request: %w", err)
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) != size-1 {
		err = fmt.Errorf("answer of %d bytes, want %d", len(answer), size-1)
	}
	return conn.LocalAddr().String(), err
}

// answerShorter answers a request with one byte less.
func answerShorter(conn *net.TCPConn) {
	defer conn.Close()
	if request, err := io.ReadAll(conn); err == nil {
		_, _ = conn.Write(make([]byte, len(request)-1))
	}
}

// TestConnections makes 500 real connections, at either hook: two events each, both of an orderly close, that sum to
// what the interface counted.
func TestConnections(t *testing.T) {
	for _, row := range []struct {
		hook    string
		uncount uint64 // bytes of a received frame that the interface's counter leaves out
	}{
		{"tc", 0},
		{"xdp", 14}, // veth with XDP counts bytes without the Ethernet header
	} {
		t.Run(row.hook, func(t *testing.T) {
			const each = 250
			p := newPair(t)
			// The interface counts a super-packet as one: without offloads there are none.
			p.clientLink.SetOffloads(t, testnet.AllOffloads, false)
			p.serverLink.SetOffloads(t, testnet.AllOffloads, false)
			brain := brainIn(t, p.server, testbrain.Options{})
			a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_INGRESS_HOOK="+row.hook,
				"AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.2")
			before := p.serverLink.Counters(t)
			opened := p.exchangeMany(t, each)
			brain.WaitFor(t, 4*each, 20*time.Second)
			after := p.serverLink.Counters(t)
			a.terminate(t) // whatever else is in the map comes out now

			in, out := checkConnections(t, brain.Events(), opened)
			packets := after.RxPackets - before.RxPackets
			checkSum(t, "in", in, packets, after.RxBytes-before.RxBytes+row.uncount*packets)
			checkSum(t, "out", out, after.TxPackets-before.TxPackets, after.TxBytes-before.TxBytes)
		})
	}
}

// exchangeMany makes so many connections over each IP version. It returns the flow_id of what a client sent, by that of
// what it received.
func (p pair) exchangeMany(t *testing.T, each int) map[string]string {
	t.Helper()
	opened := map[string]string{}
	var mu sync.Mutex
	var clients errgroup.Group
	clients.SetLimit(8)
	for i, addr := range []string{p.listen(t, "10.9.0.2:0", answerShorter), p.listen(t, "[fd09::2]:0", answerShorter)} {
		for n := range each {
			clients.Go(func() error {
				client, err := p.exchange(addr, 1+n*97+i)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				opened[flowID(addr, client)] = flowID(client, addr)
				return nil
			})
		}
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(opened) != 2*each {
		t.Fatalf("%d different connections, want %d", len(opened), 2*each)
	}
	return opened
}

// sum is of packets and bytes.
type sum struct{ packets, bytes uint64 }

// checkConnections compares each event with its connection, and sums them by direction.
func checkConnections(t *testing.T, received []testbrain.Event, opened map[string]string) (in, out sum) {
	t.Helper()
	events := map[string]testbrain.Event{}
	for _, e := range received {
		if _, again := events[e.FlowID]; again || e.EndReason != "fin" {
			t.Errorf("event %+v: want one per flow, ended by fin", e)
		}
		events[e.FlowID] = e
	}
	if len(events) != 2*len(opened) {
		t.Errorf("%d flows, want %d", len(events), 2*len(opened))
	}
	for answer, request := range opened {
		for id, want := range map[string]struct {
			direction string
			initiator bool
			sum       *sum
		}{request: {"inbound", true, &in}, answer: {"outbound", false, &out}} {
			e, ok := events[id]
			if !ok || e.Direction != want.direction || e.Initiator == nil || *e.Initiator != want.initiator ||
				e.Interface != "server" || e.Hostname != "node-1" || e.Protocol != "TCP" {
				t.Errorf("flow %s: %+v, want %s, initiator %t", id, e, want.direction, want.initiator)
			}
			want.sum.packets += uint64(e.PacketCount)
			want.sum.bytes += uint64(e.ByteCount)
		}
	}
	return in, out
}

func checkSum(t *testing.T, way string, got sum, packets, bytes uint64) {
	t.Helper()
	if want := (sum{packets, bytes}); got != want {
		t.Errorf("%s: events sum to %+v, the interface counted %+v", way, got, want)
	}
}

// flowID takes addresses as Go writes them, which has brackets around IPv6.
func flowID(src, dst string) string {
	plain := func(addr string) string {
		host, port, _ := net.SplitHostPort(addr)
		return host + ":" + port
	}
	return plain(src) + "-" + plain(dst) + "-TCP"
}

// TestReset has a reset connection at the Brain within a second.
func TestReset(t *testing.T) {
	p := newPair(t)
	brain := brainIn(t, p.server, testbrain.Options{})
	start(t, p.server, "AGENT_INTERFACE=server", "AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.1")
	// The server reads until the reset.
	addr := p.listen(t, "10.9.0.2:0", func(conn *net.TCPConn) {
		defer conn.Close()
		_, _ = io.Copy(io.Discard, conn)
	})
	conn, err := p.dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Write([]byte("hello"))
	if err := errors.Join(err, conn.SetLinger(0), conn.Close()); err != nil { // linger 0: RST instead of FIN
		t.Fatal(err)
	}
	reset := time.Now()
	brain.WaitFor(t, 2, 20*time.Second)
	took := time.Since(reset)
	for _, e := range brain.Events() {
		if e.EndReason != "rst" {
			t.Errorf("event %+v, want it ended by rst", e)
		}
	}
	if took > time.Second {
		t.Errorf("the events came %s after the reset, want at most 1s", took)
	}
}

// TestRefused: a connection that nobody answers with more than a reset is no ghost.
func TestRefused(t *testing.T) {
	p := newPair(t)
	brain := brainIn(t, p.server, testbrain.Options{})
	a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.1")
	if conn, err := p.dial("10.9.0.2:1"); err == nil {
		conn.Close()
		t.Fatal("port 1 answers")
	}
	brain.WaitFor(t, 2, 20*time.Second)
	a.terminate(t)
	if n := brain.Received(); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	for _, e := range brain.Events() {
		if e.EndReason != "rst" || e.PacketCount != 1 {
			t.Errorf("event %+v, want one packet, ended by rst", e)
		}
	}
}
