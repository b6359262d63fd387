package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/netns"
	"weir/internal/telemetry"
	"weir/internal/testnet"
)

// blue is a namespace with an interface "a" and a folder of paths to namespaces.
type blue struct {
	*stand
	*namespaces
	dir   string
	there *testnet.Namespace
	link  *testnet.Link
}

func newBlue(t *testing.T, patterns ...string) *blue {
	t.Helper()
	b := &blue{stand: newStand(t), dir: t.TempDir(), there: testnet.NewNamespace(t)}
	b.link, _ = testnet.Veth(t, testnet.End{Namespace: b.there, Name: "a"}, testnet.End{Namespace: testnet.NewNamespace(t), Name: "x"})
	for i := range patterns {
		patterns[i] = filepath.Join(b.dir, patterns[i])
	}
	b.stand.do(t, func() (err error) {
		b.namespaces, err = newNamespaces(patterns, b.stand.attaching)
		return err
	})
	return b
}

func (b *blue) path(name string) string { return filepath.Join(b.dir, name) }

// names are those of what is watched and attached.
func (b *blue) names() (list []string) {
	for _, c := range b.namespaces.checks() {
		list = append(list, c.Name)
	}
	return list
}

// TestNamespacesComeAndGo: a namespace is watched as long as a path leads to it, once if there are several; the agent's own
// and what is no namespace are passed over.
func TestNamespacesComeAndGo(t *testing.T) {
	b := newBlue(t, "b*", "*")
	ctx := t.Context()
	b.scan(ctx)
	if n := len(b.watched); n != 0 {
		t.Errorf("%d namespaces are watched of none", n)
	}
	if err := os.WriteFile(b.path("a file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.stand.namespace.Bind(t, b.path("own"))
	b.there.Bind(t, b.path("blue"))
	b.there.Bind(t, b.path("again"))
	for number := uint8(1); number <= 2; number++ {
		b.scan(ctx)
		b.scan(ctx)
		testnet.Eventually(t, "both sides are attached", func() bool { return programs(t, b.there, b.link.Index) == 2 })
		in := fmt.Sprintf(" in %q", b.path("blue"))
		if number == 2 {
			in = fmt.Sprintf(" in %q", b.path("bleu"))
		}
		testnet.Eventually(t, "both are reported", func() bool { return len(b.names()) == 2 })
		if got, want := b.names(), []string{`attach "a" egress` + in, `attach "a" ingress` + in}; !slices.Equal(got, want) {
			t.Errorf("attached %q, want %q", got, want)
		}
		if got := b.stand.node.InterfaceName(number, uint32(b.link.Index)); got != "a" {
			t.Errorf("interface of namespace %d is called %q", number, got)
		}
		if n := testutil.ToFloat64(b.stand.metrics.namespaces); n != 1 {
			t.Errorf("%v namespaces are watched, want 1", n)
		}
		if number == 1 {
			testnet.Unbind(t, b.path("blue"))
			b.scan(ctx)
			if n := programs(t, b.there, b.link.Index); n != 2 {
				t.Errorf("%d programs while another path leads there, want 2", n)
			}
			testnet.Unbind(t, b.path("again"))
			b.scan(ctx)
			if n := programs(t, b.there, b.link.Index); n != 0 {
				t.Errorf("%d programs stay in a namespace that nothing leads to", n)
			}
			b.there.Bind(t, b.path("bleu"))
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.namespaces.Run(ended); err != nil {
		t.Error(err)
	}
	if n := programs(t, b.there, b.link.Index); n != 0 {
		t.Errorf("%d programs stay after the end", n)
	}
}

// TestNothingInANamespace: a namespace in which nothing is to be attached is told, once, and is no reason to be not ready.
func TestNothingInANamespace(t *testing.T) {
	for name, tc := range map[string]struct {
		want config.Interfaces
		why  string
	}{
		"auto": {auto, "interface auto: no interface that weir can read has a default route: name one of lo, a"},
		"glob": {named("late*"), `interface "late*": there is none; there are lo, a`},
		"both": {named("nonesuch", "late*"), `interface "nonesuch": there is none; there are lo, a`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBlue(t, "*")
			b.namespaces.want = tc.want
			b.there.Bind(t, b.path("blue"))
			b.scan(t.Context())
			want := telemetry.Check{Name: fmt.Sprintf("attach in %q", b.path("blue")), OK: true, Detail: fmt.Sprintf("%q", tc.why)}
			testnet.Eventually(t, "it is reported", func() bool { return slices.Equal(b.namespaces.idleChecks(), []telemetry.Check{want}) })
			testnet.Veth(t, testnet.End{Namespace: b.there, Name: "other"}, testnet.End{Namespace: testnet.NewNamespace(t), Name: "x"})
			testnet.Eventually(t, "it is looked at again", func() bool {
				list := b.namespaces.idleChecks()
				return len(list) == 1 && strings.Contains(list[0].Detail, "other")
			})
			logged := b.logs.FilterMessage("nothing to attach in a network namespace yet").All()
			if len(logged) != 1 || logged[0].ContextMap()["error"] != tc.why || logged[0].ContextMap()["netns"] != b.path("blue") {
				t.Errorf("logged %v, want once that %s", logged, tc.why)
			}
			if got := b.names(); len(got) != 0 {
				t.Errorf("readiness lists %q", got)
			}
		})
	}
}

// TestNamespaceRefused: one that cannot be watched is counted and logged, and not tried again at once.
func TestNamespaceRefused(t *testing.T) {
	b := newBlue(t, "*")
	b.numbers.free = nil
	b.there.Bind(t, b.path("blue"))
	for range 3 {
		b.scan(t.Context())
	}
	if n := testutil.ToFloat64(b.stand.metrics.namespacesFailed); n != 1 || len(b.watched) != 0 {
		t.Errorf("%v failures, %d watched, want 1 and none", n, len(b.watched))
	}
	logged := b.logs.FilterMessage("a network namespace cannot be watched").All()
	if len(logged) != 1 || !strings.Contains(fmt.Sprint(logged[0].ContextMap()["error"]), "255 are watched") {
		t.Errorf("logged %v, want once that there are too many", logged)
	}
	want := telemetry.Check{Name: fmt.Sprintf("watch %q", b.path("blue")), Detail: fmt.Sprintf("%q", errNumbers)}
	if got := b.namespaces.checks(); !slices.Equal(got, []telemetry.Check{want}) {
		t.Errorf("readiness is %+v, want %+v", got, want)
	}
	testnet.Unbind(t, b.path("blue"))
	b.scan(t.Context())
	if got := b.namespaces.checks(); len(got) != 0 {
		t.Errorf("readiness is %+v of a namespace that is gone", got)
	}
}

// TestNamespaceNamed: a path must lead to a namespace at the start.
func TestNamespaceNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nonesuch")
	_, err := newNamespaces([]string{path}, attaching{})
	if want := fmt.Sprintf("network namespace %q: no such file or directory", path); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// life is one process's on a folder of pins, which gives numbers to namespaces.
func life(t *testing.T, pins string, live func(*testing.T, *namespaces)) {
	t.Helper()
	t.Run("life", func(t *testing.T) {
		s := newStandWith(t, datapath.Config{MaxFlows: 1024, PinDir: filepath.Join(pins, "weir")})
		n, err := newNamespaces(nil, s.attaching)
		if err != nil {
			t.Fatal(err)
		}
		live(t, n)
	})
}

// give returns the number that a namespace is given, and is called by its path.
func (s *namespaces) give(t *testing.T, path string) (uint8, error) {
	t.Helper()
	found, err := netns.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := netns.Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	return s.number(n, path)
}

// TestNumbersOutliveTheProcess: a number stands for the same namespace afterwards, even if that is gone, and another one has its
// path and, mostly, its inode.
func TestNumbersOutliveTheProcess(t *testing.T) {
	pins, dir := testnet.BPFFS(t), t.TempDir()
	long := filepath.Join(dir, strings.Repeat("n", 200))
	paths := []string{filepath.Join(dir, "gone"), filepath.Join(dir, "kept"), long}
	for _, path := range paths[1:] {
		testnet.NewNamespace(t).Bind(t, path)
	}
	life(t, pins, func(t *testing.T, n *namespaces) {
		testnet.NewNamespace(t).Bind(t, paths[0]) // goes with the test
		for i, path := range paths {
			if number, err := n.give(t, path); number != uint8(i+1) || err != nil {
				t.Fatalf("%s is number %d, %v, want %d", path, number, err, i+1)
			}
		}
	})
	testnet.NewNamespace(t).Bind(t, paths[0])
	life(t, pins, func(t *testing.T, n *namespaces) {
		for i, path := range paths {
			want := path[max(0, len(path)-160):]
			if got := n.node.NamespaceName(uint8(i + 1)); got != want {
				t.Errorf("number %d is called %q, want %q", i+1, got, want)
			}
		}
		for i, want := range []uint8{4, 2, 3} {
			if got, err := n.give(t, paths[i]); got != want || err != nil {
				t.Errorf("%s is number %d, %v, want %d", paths[i], got, err, want)
			}
		}
	})
}

// TestNumberIsNotLost: one that cannot be remembered is given to nobody, and can be given again.
func TestNumberIsNotLost(t *testing.T) {
	pins, path := testnet.BPFFS(t), filepath.Join(t.TempDir(), "blue")
	testnet.NewNamespace(t).Bind(t, path)
	life(t, pins, func(t *testing.T, n *namespaces) {
		if err := unix.Mount("", pins, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		before := len(n.numbers.free)
		if number, err := n.give(t, path); err == nil || !strings.HasPrefix(err.Error(), "remember a namespace's number") {
			t.Errorf("given %d, %v, want that it cannot be remembered", number, err)
		}
		if after := len(n.numbers.free); after != before {
			t.Errorf("%d numbers are free, want %d", after, before)
		}
	})
}

// TestStoppedInLine: a stop does not wait for namespaces whose turn to load programs has not come, and nothing is attached there.
func TestStoppedInLine(t *testing.T) {
	b := newBlue(t, "*")
	b.there.Bind(t, b.path("blue"))
	b.turn <- struct{}{} // another one is loading
	ctx, stop := context.WithCancel(t.Context())
	b.scan(ctx)
	if n := len(b.watched); n != 1 {
		t.Fatalf("%d namespaces are watched, want 1", n)
	}
	stop()
	for id := range b.watched {
		if err := b.leave(id); err != nil {
			t.Error(err)
		}
	}
	if n := programs(t, b.there, b.link.Index); n != 0 {
		t.Errorf("%d programs are attached", n)
	}
}
