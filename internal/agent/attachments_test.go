package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/enrich"
	"weir/internal/telemetry"
	"weir/internal/testnet"
)

// stand is a namespace with interfaces a and b, and attachments to try on them. All of its calls are made inside.
type stand struct {
	*attachments
	namespace  *testnet.Namespace
	interfaces []datapath.Interface
	reg        *prometheus.Registry
	logs       *observer.ObservedLogs
}

func newStand(t *testing.T) *stand {
	t.Helper()
	return newStandWith(t, datapath.Config{MaxFlows: 1024})
}

func newStandWith(t *testing.T, cfg datapath.Config) *stand {
	t.Helper()
	s := &stand{namespace: testnet.NewNamespace(t), reg: prometheus.NewRegistry()}
	beyond := testnet.NewNamespace(t)
	for _, name := range []string{"a", "b"} {
		l, _ := testnet.Veth(t, testnet.End{Namespace: s.namespace, Name: name}, testnet.End{Namespace: beyond, Name: name})
		s.interfaces = append(s.interfaces, datapath.Interface{Index: l.Index, Name: l.Name})
	}
	kernel, err := datapath.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kernel.Close(); err != nil {
			t.Error(err)
		}
	})
	core, logs := observer.New(zap.DebugLevel)
	s.logs = logs
	m, err := newMetrics(s.reg)
	if err != nil {
		t.Fatal(err)
	}
	s.attachments = attaching{
		want: named("a", "b"), hook: config.IngressTC, stay: cfg.PinDir != "", kernel: kernel, node: new(enrich.Node),
		log: zap.New(core), metrics: m, rested: func(time.Time) bool { return false },
	}.in(0, "")
	return s
}

func (s *stand) relist() error { return s.attachments.relist(context.Background()) }

// do makes a call that must not fail.
func (s *stand) do(t *testing.T, call func() error) {
	t.Helper()
	if err := s.namespace.Do(call); err != nil {
		t.Fatal(err)
	}
}

// programs counts those that the kernel has on an interface.
func programs(t *testing.T, namespace *testnet.Namespace, ifindex int) (n int) {
	t.Helper()
	info, err := namespace.Netlink.LinkByIndex(ifindex)
	if err != nil {
		t.Fatal(err)
	}
	if xdp := info.Attrs().Xdp; xdp != nil && xdp.Attached {
		n++
	}
	err = namespace.Do(func() error {
		for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			result, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: side})
			if err != nil {
				return err
			}
			n += len(result.Programs)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// check compares the metrics that are not 0, and readiness.
func (s *stand) check(t *testing.T, when string, metrics map[string]float64, checks []string) {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			if value := m.GetGauge().GetValue() + m.GetCounter().GetValue(); value != 0 {
				got[name] = value
			}
		}
	}
	if !maps.Equal(got, metrics) {
		t.Errorf("%s: metrics %v, want %v", when, got, metrics)
	}
	var list []string
	for _, c := range s.checks() {
		list = append(list, fmt.Sprintf("%s %t %s", c.Name, c.OK, c.Detail))
	}
	if !slices.Equal(list, checks) {
		t.Errorf("%s: checks %q, want %q", when, list, checks)
	}
}

var nothingAttached []string

// ready is what is said of interfaces that are attached, with their mode at ingress.
func ready(mode string, names ...string) (list []string) {
	why := map[string]string{"xdp": "as set", "tcx": "first choice"}[mode]
	for _, name := range names {
		list = append(list,
			fmt.Sprintf("attach %q egress true tcx: %q", name, "first choice"),
			fmt.Sprintf("attach %q ingress true %s: %q", name, mode, why))
	}
	return list
}

// missing is what is said of an interface that is asked for and is not there, and noXDP of one that cannot be attached.
func missing(name string) string {
	return fmt.Sprintf("attach %q false %q", name, "there is no such interface that weir can read")
}

func noXDP(name string) string {
	return fmt.Sprintf("attach %q false %q", name, fmt.Sprintf("attach to %q ingress: xdp: not in this driver, or not with its "+
		"present settings: failed to attach link: create link: operation not supported (the ingress hook auto takes what works)", name))
}

func TestAttachAndDetach(t *testing.T) {
	s := newStand(t)
	s.check(t, "at first", nil, nothingAttached)
	s.hook = config.IngressXDP
	s.do(t, func() error { return s.attachAll(t.Context(), s.interfaces) })
	s.do(t, s.relist)
	for range 10 { // in the same order each time
		s.check(t, "attached", map[string]float64{
			"weir_attached_interfaces ingress xdp": 2, "weir_attached_interfaces egress tcx": 2,
		}, ready("xdp", "a", "b"))
	}
	for _, ifi := range s.interfaces {
		if n := programs(t, s.namespace, ifi.Index); n != 2 {
			t.Errorf("%d programs on %s, want 2", n, ifi.Name)
		}
		if got := s.host.InterfaceName(uint32(ifi.Index)); got != ifi.Name {
			t.Errorf("the host knows %s as %q", ifi.Name, got)
		}
	}
	s.do(t, s.detachAll)
	s.do(t, s.detachAll)
	s.check(t, "detached", nil, nothingAttached)
	for _, ifi := range s.interfaces {
		if n := programs(t, s.namespace, ifi.Index); n != 0 {
			t.Errorf("%d programs stay on %s", n, ifi.Name)
		}
	}
}

// endsWhen is a context that is over as soon as something is so.
type endsWhen struct {
	context.Context
	over func() bool
}

func (c endsWhen) Err() error {
	if c.over() {
		return context.Canceled
	}
	return nil
}

// TestStoppedWhileAttaching: what is attached when the stop comes stays so for the stop, which delivers what it has counted.
func TestStoppedWhileAttaching(t *testing.T) {
	s := newStand(t)
	s.hook = config.IngressXDP
	ctx := endsWhen{t.Context(), func() bool { return s.attachments.interfaces() > 0 }}
	s.do(t, func() error { return s.attachAll(ctx, s.interfaces) })
	s.check(t, "stopped", map[string]float64{
		"weir_attached_interfaces ingress xdp": 1, "weir_attached_interfaces egress tcx": 1,
	}, ready("xdp", "a"))
}

// TestAttachFails: a failure at the second interface, which was asked for by its name, leaves nothing at the first.
func TestAttachFails(t *testing.T) {
	s := newStand(t)
	s.interfaces[1] = datapath.Interface{Index: 4711, Name: "b"}
	s.hook = config.IngressXDP
	err := s.namespace.Do(func() error { return errors.Join(s.attachAll(t.Context(), s.interfaces), s.undo()) })
	if err == nil || !strings.Contains(err.Error(), `attach to "b" egress`) {
		t.Errorf("error %v, want one that names the interface", err)
	}
	s.check(t, "failed", nil, nothingAttached)
	if n := programs(t, s.namespace, s.interfaces[0].Index); n != 0 {
		t.Errorf("%d programs stay on %s", n, s.interfaces[0].Name)
	}
	if s.logs.FilterMessage("attached").Len() != 2 {
		t.Errorf("logged %v, want that the first was attached before", s.logs.All())
	}
}

// TestAttachFailsWithPins: a failure leaves attached what another process had left so, and nothing else.
func TestAttachFailsWithPins(t *testing.T) {
	s := newStandWith(t, datapath.Config{MaxFlows: 1024, PinDir: filepath.Join(testnet.BPFFS(t), "weir")})
	bad := []datapath.Interface{s.interfaces[0], s.interfaces[1], {Index: 4711, Name: "nonesuch"}}
	s.want = named("nonesuch")
	for _, row := range []struct {
		name string
		left []datapath.Interface
		want [2]int
	}{
		{"the first process", nil, [2]int{0, 0}},
		{"after another", s.interfaces[:1], [2]int{2, 0}},
	} {
		s.do(t, func() error { return errors.Join(s.attachAll(t.Context(), row.left), s.end()) })
		if err := s.namespace.Do(func() error { return errors.Join(s.attachAll(t.Context(), bad), s.undo()) }); err == nil {
			t.Errorf("%s: attached, want an error", row.name)
		}
		for i, want := range row.want {
			if n := programs(t, s.namespace, s.interfaces[i].Index); n != want {
				t.Errorf("%s: %d programs stay on %s, want %d", row.name, n, s.interfaces[i].Name, want)
			}
		}
	}
}

// TestAttachesWhatItCan: what a glob or all finds may fail, or be gone by now, as long as something is attached.
func TestAttachesWhatItCan(t *testing.T) {
	for _, row := range []struct {
		name    string
		want    config.Interfaces
		fails   datapath.Interface
		metrics map[string]float64
		checks  []string
		logged  string
	}{
		{"gone", all, datapath.Interface{Index: 4711, Name: "gone"}, nil, nil, "an interface went away before it was attached"},
		{
			"without XDP", named("a", "l*"),
			datapath.Interface{Index: 1, Name: "lo"},
			map[string]float64{"weir_attach_failures_total": 1},
			[]string{noXDP("lo")},
			"an interface cannot be attached",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStand(t)
			s.hook, s.want = config.IngressXDP, row.want
			s.do(t, func() error { return s.attachAll(t.Context(), []datapath.Interface{row.fails, s.interfaces[0]}) })
			want := map[string]float64{"weir_attached_interfaces ingress xdp": 1, "weir_attached_interfaces egress tcx": 1}
			maps.Copy(want, row.metrics)
			s.check(t, "one of two", want, append(ready("xdp", "a"), row.checks...))
			if n := s.logs.FilterMessage(row.logged).Len(); n != 1 {
				t.Errorf("logged %v, want %q once", s.logs.All(), row.logged)
			}
			s.do(t, s.detachAll)
			err := s.namespace.Do(func() error { return s.attachAll(t.Context(), []datapath.Interface{row.fails}) })
			if want := fmt.Sprintf("attach to %q", row.fails.Name); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v with nothing to attach, want %q", err, want)
			}
		})
	}
}

// TestRename: events and readiness follow an interface to its new name.
func TestRename(t *testing.T) {
	s := newStand(t)
	s.hook = config.IngressTC
	s.do(t, func() error { return s.attachAll(t.Context(), s.interfaces) })
	index := s.interfaces[0].Index
	if err := s.namespace.Netlink.LinkSetName(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}, "new"); err != nil {
		t.Fatal(err)
	}
	s.do(t, s.relist)
	if got := s.host.InterfaceName(uint32(index)); got != "new" {
		t.Errorf("the host knows it as %q", got)
	}
	s.check(t, "renamed", map[string]float64{
		"weir_attached_interfaces ingress tcx": 2, "weir_attached_interfaces egress tcx": 2,
	}, append(ready("tcx", "new", "b"), missing("a")))
}

// TestAwaited: a glob that finds nothing is no failure, but told, and what matches is attached when it comes.
func TestAwaited(t *testing.T) {
	s := newStand(t)
	s.want = named("late*")
	s.do(t, func() error { return s.attachAll(t.Context(), nil) })
	idle := []telemetry.Check{{Name: `attach "late*"`, OK: true, Detail: "no interface matches now"}}
	check := func(when string, metrics map[string]float64, checks []string, waiting []telemetry.Check) {
		t.Helper()
		s.do(t, s.relist)
		s.check(t, when, metrics, checks)
		if got := s.idleChecks(); !slices.Equal(got, waiting) {
			t.Errorf("%s: waits for %v, want %v", when, got, waiting)
		}
	}
	check("before", nil, nothingAttached, idle)
	late, _ := testnet.Veth(t, testnet.End{Namespace: s.namespace, Name: "late1"}, testnet.End{Namespace: testnet.NewNamespace(t), Name: "x"})
	check("there", map[string]float64{
		"weir_attached_interfaces ingress tcx": 1, "weir_attached_interfaces egress tcx": 1,
	}, ready("tcx", "late1"), nil)
	if err := s.namespace.Netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: late.Index}}); err != nil {
		t.Fatal(err)
	}
	check("gone", map[string]float64{"weir_interfaces_lost_total": 1}, nothingAttached, idle)
}

// TestAppearedInVain: an interface that cannot be attached is counted, and the others stay.
func TestAppearedInVain(t *testing.T) {
	s := newStand(t)
	s.hook = config.IngressXDP
	s.want = named("a", "lo") // loopback has no native XDP
	s.do(t, func() error { return s.attachAll(t.Context(), s.interfaces[:1]) })
	for range 3 { // but not tried again at once
		s.do(t, s.relist)
	}
	s.check(t, "in vain", map[string]float64{
		"weir_attached_interfaces ingress xdp": 1, "weir_attached_interfaces egress tcx": 1, "weir_attach_failures_total": 1,
	}, append(ready("xdp", "a"), noXDP("lo")))
	s.want = named("a")
	s.do(t, s.relist)
	s.check(t, "not wanted any more", map[string]float64{
		"weir_attached_interfaces ingress xdp": 1, "weir_attached_interfaces egress tcx": 1, "weir_attach_failures_total": 1,
	}, ready("xdp", "a"))
}
