package agent

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/telemetry"
	"weir/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const any4, any6 = "0.0.0.0/0", "::/0"

var (
	auto = config.Interfaces{Mode: config.InterfacesAuto}
	all  = config.Interfaces{Mode: config.InterfacesAll}
)

func named(patterns ...string) config.Interfaces {
	return config.Interfaces{Mode: config.InterfacesNamed, Patterns: patterns}
}

// host is a namespace with interfaces en1 and en2, which have addresses of both families and a neighbour that may be a
// gateway, en3, which has none, and, once it was added, tun0, whose frames have no Ethernet header.
type host struct {
	namespace *testnet.Namespace
	links     map[string]int // index by name
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{namespace: testnet.NewNamespace(t), links: map[string]int{"lo": 1}}
	beyond := testnet.NewNamespace(t)
	for _, row := range []struct {
		name        string
		here, there []string
	}{
		{"en1", []string{"10.1.0.2/24", "fd01::2/64"}, []string{"10.1.0.1/24", "fd01::1/64"}},
		{"en2", []string{"10.2.0.2/24", "fd02::2/64"}, []string{"10.2.0.1/24", "fd02::1/64"}},
		{"en3", nil, nil},
	} {
		link, _ := testnet.Veth(t,
			testnet.End{Namespace: h.namespace, Name: row.name, Addrs: row.here},
			testnet.End{Namespace: beyond, Name: row.name, Addrs: row.there})
		h.links[row.name] = link.Index
	}
	return h
}

// addTun ends the test where the kernel has no tun interfaces.
func (h *host) addTun(t *testing.T) {
	t.Helper()
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN}
	err := h.namespace.Do(func() error {
		if err := netlink.LinkAdd(tun); err != nil {
			return err
		}
		return netlink.LinkSetUp(tun)
	})
	if err != nil {
		testnet.Unavailable(t, err)
	}
	h.links["tun0"] = tun.Index
}

// hop is a way out of the host: "10.1.0.1 en1", or only "en1".
func (h *host) hop(text string) (gateway net.IP, index int) {
	addr, name, ok := strings.Cut(text, " ")
	if !ok {
		return nil, h.links[text]
	}
	return net.ParseIP(addr), h.links[name]
}

// addDefault adds a default route with one hop or several.
func (h *host) addDefault(t *testing.T, dst string, hops ...string) {
	t.Helper()
	route := &netlink.Route{}
	if len(hops) == 1 {
		route.Gw, route.LinkIndex = h.hop(hops[0])
	} else {
		for _, text := range hops {
			gateway, index := h.hop(text)
			route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: gateway, LinkIndex: index})
		}
	}
	h.addRoute(t, dst, route)
}

// addNowhere adds a route whose packets are refused.
func (h *host) addNowhere(t *testing.T, dst string) {
	t.Helper()
	h.addRoute(t, dst, &netlink.Route{Type: unix.RTN_UNREACHABLE, Priority: 5000})
}

func (h *host) addRoute(t *testing.T, dst string, route *netlink.Route) {
	t.Helper()
	var err error
	if _, route.Dst, err = net.ParseCIDR(dst); err == nil {
		err = h.namespace.Netlink.RouteAdd(route)
	}
	if err != nil {
		t.Fatalf("add route %s: %v", route, err)
	}
}

// check compares what findInterfaces returns: names, or an error with a text.
func (h *host) check(t *testing.T, want config.Interfaces, names []string, failure string) {
	t.Helper()
	var list []datapath.Interface
	err := h.namespace.Do(func() error {
		links, err := listLinks()
		if err != nil {
			return err
		}
		list, err = findInterfaces(links, want)
		return err
	})
	if err == nil && failure != "" || err != nil && err.Error() != failure {
		t.Errorf("error %v, want %q", err, failure)
	}
	var got []string
	for _, ifi := range list {
		got = append(got, ifi.Name)
		if bare := ifi.Name == "tun0"; ifi.Index != h.links[ifi.Name] || ifi.Bare != bare {
			t.Errorf("%s has index %d, bare %t, want %d, %t", ifi.Name, ifi.Index, ifi.Bare, h.links[ifi.Name], bare)
		}
	}
	if !slices.Equal(got, names) {
		t.Errorf("found %q, want %q", got, names)
	}
}

func TestDefaultRoutes(t *testing.T) {
	for _, row := range []struct {
		name   string
		routes func(*testing.T, *host)
		want   []string
	}{
		{"IPv4", func(t *testing.T, h *host) { h.addDefault(t, any4, "10.1.0.1 en1") }, []string{"en1"}},
		{"IPv6", func(t *testing.T, h *host) { h.addDefault(t, any6, "fd02::1 en2") }, []string{"en2"}},
		{"each its own", func(t *testing.T, h *host) {
			h.addDefault(t, any4, "10.2.0.1 en2")
			h.addDefault(t, any6, "fd01::1 en1")
		}, []string{"en1", "en2"}},
		{"both the same", func(t *testing.T, h *host) {
			h.addDefault(t, any4, "10.2.0.1 en2")
			h.addDefault(t, any6, "fd02::1 en2")
		}, []string{"en2"}},
		{"IPv4 multipath", func(t *testing.T, h *host) {
			h.addDefault(t, any4, "10.1.0.1 en1", "10.2.0.1 en2")
		}, []string{"en1", "en2"}},
		{"IPv6 multipath", func(t *testing.T, h *host) {
			h.addDefault(t, any6, "fd01::1 en1", "fd02::1 en2")
		}, []string{"en1", "en2"}},
		{"without a gateway", func(t *testing.T, h *host) { h.addDefault(t, any4, "en3") }, []string{"en3"}},
		{"beside other routes", func(t *testing.T, h *host) {
			h.addDefault(t, any4, "10.1.0.1 en1")
			h.addNowhere(t, "0.0.0.0/1")
			h.addNowhere(t, "fd03::/64")
		}, []string{"en1"}},
		{"beside unreachable ones", func(t *testing.T, h *host) { // the kernel has IPv6's on lo
			h.addDefault(t, any4, "10.1.0.1 en1")
			h.addNowhere(t, any4)
			h.addNowhere(t, any6)
		}, []string{"en1"}},
		{"not by Ethernet alone", func(t *testing.T, h *host) {
			h.addTun(t)
			h.addDefault(t, any4, "tun0")
			h.addDefault(t, any6, "fd01::1 en1")
		}, []string{"en1", "tun0"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHost(t)
			row.routes(t, h)
			h.check(t, auto, row.want, "")
		})
	}
}

func TestMPLSRouteIsNoDefault(t *testing.T) {
	label := 16
	if isDefault(netlink.Route{Type: unix.RTN_UNICAST, Family: netlink.FAMILY_MPLS, MPLSDst: &label}) {
		t.Error("the route of an MPLS label is a default route")
	}
}

func TestNoDefaultRoute(t *testing.T) {
	const failure = "interface auto: no interface that weir can read has a default route: name one of lo, en1, en2, en3"
	h := newHost(t)
	h.check(t, auto, nil, failure)
	h.addNowhere(t, any6)
	h.check(t, auto, nil, failure)
}

func TestNames(t *testing.T) {
	h := newHost(t)
	h.addTun(t)
	const none = ": there is none; there are lo, en1, en2, en3, tun0"
	for _, row := range []struct {
		name    string
		want    config.Interfaces
		names   []string
		failure string
	}{
		{"all", all, []string{"en1", "en2", "en3", "tun0"}, ""},
		{"a name", named("en2"), []string{"en2"}, ""},
		{"loopback by name", named("lo"), []string{"lo"}, ""},
		{"names, by index", named("en3", "en1"), []string{"en1", "en3"}, ""},
		{"a glob", named("en*"), []string{"en1", "en2", "en3"}, ""},
		{"a range", named("en[13]"), []string{"en1", "en3"}, ""},
		{"the same by several", named("en2", "en?", "*2", "en2"), []string{"en1", "en2", "en3"}, ""},
		{"none of that name", named("en1", "eth0", "eth1"), []string{"en1"}, `interface "eth0"` + none},
		{"part of a name", named("en"), nil, `interface "en"` + none},
		{"a glob of what may come", named("wl*"), nil, ""},
		{"another beside it", named("wl*", "en1"), []string{"en1"}, ""},
		{"a missing name beside it", named("wl*", "eth0"), nil, `interface "eth0"` + none},
		{"without a link layer", named("tun0"), []string{"tun0"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) { h.check(t, row.want, row.names, row.failure) })
	}
}

func TestNothingButLoopback(t *testing.T) {
	h := &host{namespace: testnet.NewNamespace(t)}
	h.check(t, all, nil, "interface all: there is none that weir can read but loopback")
}

// TestUnusable: an interface that cannot be read is an error if it was named, and to a glob it is as good as none.
func TestUnusable(t *testing.T) {
	var links []netlink.Link
	for _, attrs := range []netlink.LinkAttrs{
		{Name: "ib0", EncapType: "infiniband"}, {Name: "ib1", EncapType: "infiniband"}, {Name: "ib2", EncapType: "ether"},
	} {
		links = append(links, &netlink.Dummy{LinkAttrs: attrs})
	}
	const failure = `interface "ib0": its link type is infiniband, neither Ethernet nor IP`
	for pattern, want := range map[string]struct {
		found   string
		failure string
	}{
		"ib*": {"ib2", ""}, "ib2": {"ib2", ""}, "ib0": {"", failure}, "ib[01]": {"", ""},
	} {
		found, err := matchingLinks(links, []string{pattern})
		if names(found) != want.found || err == nil && want.failure != "" || err != nil && err.Error() != want.failure {
			t.Errorf("%q: found %q, %v, want %q, %q", pattern, names(found), err, want.found, want.failure)
		}
	}
	idle := idleGlobs(links, []string{"ib*", "ib0", "ib[01]"})
	const both = failure + `; "ib1": its link type is infiniband, neither Ethernet nor IP`
	if len(idle) != 1 || idle[0].name != "ib[01]" || idle[0].err.Error() != both {
		t.Errorf("globs that find nothing: %v, want ib[01], %s", idle, both)
	}
	a := &attachments{attaching: attaching{want: named("ib[01]")}}
	a.await(links, nil, nil)
	want := telemetry.Check{Name: `attach "ib[01]"`, OK: true, Detail: strconv.Quote(both)}
	if got := a.idleChecks(); !slices.Equal(got, []telemetry.Check{want}) {
		t.Errorf("readiness is %+v, want %+v", got, want)
	}
}
