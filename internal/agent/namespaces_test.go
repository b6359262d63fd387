package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

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
		b.namespaces, err = newNamespaces(patterns, b.stand.attaching, newNumbers(time.Minute, func() time.Time { return time.Time{} }))
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
}

// TestNamespaceNamed: a path must lead to a namespace at the start.
func TestNamespaceNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nonesuch")
	_, err := newNamespaces([]string{path}, attaching{}, nil)
	if want := fmt.Sprintf("network namespace %q: no such file or directory", path); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
