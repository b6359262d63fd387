package netwatch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"weir/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch is a Run in a namespace of its own.
type watch struct {
	link  *testnet.Link
	calls atomic.Int64
	logs  *observer.ObservedLogs
	stop  func() // and wait until Run has ended
}

// newWatch starts Run. The refresh function also counts its calls.
func newWatch(t *testing.T, refresh func(*watch) error, groups ...uint) *watch {
	t.Helper()
	n := testnet.NewNamespace(t)
	w := &watch{}
	w.link, _ = testnet.Veth(t, testnet.End{Namespace: n, Name: "a"}, testnet.End{Namespace: n, Name: "b"})
	core, logs := observer.New(zap.DebugLevel)
	w.logs = logs
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- n.Do(func() error {
			return Run(ctx, zap.New(core), func() error {
				defer w.calls.Add(1)
				return refresh(w)
			}, groups...)
		})
	}()
	w.stop = func() {
		if ctx.Err() != nil {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
	t.Cleanup(w.stop)
	return w
}

func (w *watch) waitForCalls(t *testing.T, atLeast int64) {
	t.Helper()
	testnet.Eventually(t, "refresh is called", func() bool { return w.calls.Load() >= atLeast })
}

func nothing(*watch) error { return nil }

func TestEachGroup(t *testing.T) {
	dummy := func(l *testnet.Link) netlink.Link {
		return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: l.Name, Index: l.Index}}
	}
	remove := func(addr string) func(*testing.T, *testnet.Link) error {
		return func(_ *testing.T, l *testnet.Link) error {
			_, network, err := net.ParseCIDR(addr)
			return errors.Join(err, l.Namespace.Netlink.AddrDel(dummy(l), &netlink.Addr{IPNet: network}))
		}
	}
	add := func(addr string) func(*testing.T, *testnet.Link) error {
		return func(t *testing.T, l *testnet.Link) error {
			l.AddAddr(t, netip.MustParsePrefix(addr))
			return nil
		}
	}
	for _, row := range []struct {
		name    string
		group   uint
		changes []func(*testing.T, *testnet.Link) error
	}{
		{"IPv4 addresses", IPv4Addresses, []func(*testing.T, *testnet.Link) error{add("10.1.0.1/32"), remove("10.1.0.1/32")}},
		{"IPv6 addresses", IPv6Addresses, []func(*testing.T, *testnet.Link) error{add("fd00::1/128"), remove("fd00::1/128")}},
		{"links", Links, []func(*testing.T, *testnet.Link) error{
			func(_ *testing.T, l *testnet.Link) error { return l.Namespace.Netlink.LinkSetMTU(dummy(l), 1400) },
			func(_ *testing.T, l *testnet.Link) error { return l.Namespace.Netlink.LinkDel(dummy(l)) },
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWatch(t, nothing, row.group)
			w.waitForCalls(t, 1)
			for i, change := range row.changes {
				before := w.calls.Load()
				if err := change(t, w.link); err != nil {
					t.Fatalf("change %d: %v", i, err)
				}
				w.waitForCalls(t, before+1)
			}
			if w.logs.Len() != 0 {
				t.Errorf("logged %v", w.logs.All())
			}
		})
	}
}

// TestSettling has changes said at some times and compares the times at which refresh was called.
func TestSettling(t *testing.T) {
	const ms, length = time.Millisecond, idle + 5*time.Second
	for name, row := range map[string]struct {
		changes []time.Duration
		takes   time.Duration // a refresh
		want    []time.Duration
	}{
		"no change":            {nil, 0, []time.Duration{0, idle}},
		"a change":             {[]time.Duration{500 * ms}, 0, []time.Duration{0, 600 * ms, 600*ms + idle}},
		"a burst":              {[]time.Duration{500 * ms, 501 * ms, 550 * ms, 599 * ms}, 0, []time.Duration{0, 600 * ms, 600*ms + idle}},
		"two bursts":           {[]time.Duration{500 * ms, 501 * ms, 610 * ms, 611 * ms}, 0, []time.Duration{0, 600 * ms, 710 * ms, 710*ms + idle}},
		"during a refresh":     {[]time.Duration{10 * ms, 20 * ms}, 50 * ms, []time.Duration{0, 150 * ms, 200*ms + idle}},
		"during every refresh": {[]time.Duration{10 * ms, 160 * ms}, 50 * ms, []time.Duration{0, 150 * ms, 300 * ms, 350*ms + idle}},
		"ended meanwhile":      {[]time.Duration{length - 50*ms}, 0, []time.Duration{0, idle}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), length)
				defer cancel()
				begin, changed := time.Now(), make(chan struct{}, 1)
				for _, at := range row.changes {
					time.AfterFunc(at, func() { say(changed) })
				}
				var calls []time.Duration
				err := refreshAfter(ctx, func() error {
					calls = append(calls, time.Since(begin))
					time.Sleep(row.takes)
					return nil
				}, changed, nil)
				if err != nil || !slices.Equal(calls, row.want) {
					t.Errorf("called at %v, %v; want %v", calls, err, row.want)
				}
			})
		})
	}
}

// TestSocketFails: a listener that netlink dropped is an error, after which Run subscribes anew.
func TestSocketFails(t *testing.T) {
	failed := make(chan error, 1)
	failed <- unix.ENOBUFS
	err := refreshAfter(t.Context(), func() error { return nil }, nil, failed)
	if !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("got %v, want %v", err, unix.ENOBUFS)
	}
}

// TestRetry: after an error all is tried again, and changes are followed as before.
func TestRetry(t *testing.T) {
	failure := errors.New("no list")
	w := newWatch(t, func(w *watch) error {
		if w.calls.Load() == 0 {
			return failure
		}
		return nil
	}, IPv4Addresses)
	begin := time.Now()
	w.waitForCalls(t, 2)
	if took := time.Since(begin); took < retry/2 {
		t.Errorf("tried again after %s, want %s", took, retry)
	}
	if logs := w.logs.All(); len(logs) != 1 || logs[0].ContextMap()["error"] != failure.Error() {
		t.Errorf("logged %v, want %v once", logs, failure)
	}
	w.link.AddAddr(t, netip.MustParsePrefix("10.1.0.1/32"))
	w.waitForCalls(t, 3)
}

func TestEndsAtOnce(t *testing.T) {
	for name, refresh := range map[string]func(*watch) error{
		"waiting for changes":     nothing,
		"waiting to try it again": func(*watch) error { return errors.New("no list") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatch(t, refresh, Links)
			w.waitForCalls(t, 1)
			begin := time.Now()
			w.stop()
			if took := time.Since(begin); took > retry/2 {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestWhole(t *testing.T) {
	for _, row := range []struct {
		name        string
		interrupted int // times
		then        error
		tries       int
		want        error
	}{
		{"at once", 0, nil, 1, nil},
		{"after interruptions", 3, nil, 4, nil},
		{"interrupted without end", 1000, nil, listings, netlink.ErrDumpInterrupted},
		{"another error", 1, unix.EPERM, 2, unix.EPERM},
	} {
		tries := 0
		got, err := Whole(func() ([]int, error) {
			if tries++; tries <= row.interrupted {
				return []int{1}, netlink.ErrDumpInterrupted
			}
			return []int{1, 2}, row.then
		})
		if !errors.Is(err, row.want) || tries != row.tries || err == nil && len(got) != 2 {
			t.Errorf("%s: %v, %v after %d tries; want %v after %d", row.name, got, err, tries, row.want, row.tries)
		}
	}
}
