package agent

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/netwatch"
)

// loopbackType is ARPHRD_LOOPBACK as netlink names it; ethernetType is ARPHRD_ETHER. Both kinds of frames start with an
// Ethernet header.
const (
	loopbackType = "loopback"
	ethernetType = "ether"
)

// bareTypes are the kinds, as netlink names them, whose frames start with the header of IP: of tun, WireGuard and xfrm
// devices ("none"), PPP, mobile modems, and of tunnels that carry IP.
var bareTypes = []string{
	"none", "ppp", fmt.Sprintf("unknown%d", unix.ARPHRD_RAWIP),
	"ipip", "tunnel6", "sit", "gre", fmt.Sprintf("unknown%d", unix.ARPHRD_IP6GRE),
}

// listLinks lists the interfaces of the calling thread's network namespace.
func listLinks() ([]netlink.Link, error) {
	links, err := netwatch.Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	return links, nil
}

// findInterfaces returns those of the interfaces that the setting means, by index. Every name must find one: an error says which
// is the first that does not, and which interfaces there are. What the others find it returns all the same. A glob may find none,
// for what it is about may come later, as the interfaces of containers do.
func findInterfaces(links []netlink.Link, want config.Interfaces) ([]datapath.Interface, error) {
	var found []netlink.Link
	var err error
	switch want.Mode {
	case config.InterfacesAuto:
		found, err = defaultRouteLinks(links)
	case config.InterfacesAll:
		found, err = everyLink(links)
	default:
		found, err = matchingLinks(links, want.Patterns)
	}
	return toInterfaces(found), err
}

// defaultRouteLinks returns the links of the default routes, IPv4 and IPv6.
func defaultRouteLinks(links []netlink.Link) ([]netlink.Link, error) {
	routes, err := netwatch.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	indexes := map[int]bool{}
	for _, route := range routes {
		if !isDefault(route) {
			continue
		}
		indexes[route.LinkIndex] = true
		for _, hop := range route.MultiPath {
			indexes[hop.LinkIndex] = true
		}
	}
	found := filter(links, func(l netlink.Link) bool { return indexes[l.Attrs().Index] && usable(l) == nil })
	if len(found) == 0 {
		could := filter(links, func(l netlink.Link) bool { return usable(l) == nil })
		return nil, fmt.Errorf("interface auto: no interface that weir can read has a default route: name one of %s", names(could))
	}
	return found, nil
}

// isDefault leaves out the default routes that lead nowhere ("unreachable", "blackhole" and the like), of which the kernel
// says in IPv6 that they are on the loopback interface, and routes that are not IP's, such as MPLS's, which have no Dst.
func isDefault(route netlink.Route) bool {
	if route.Type != unix.RTN_UNICAST || route.Dst == nil {
		return false
	}
	ones, _ := route.Dst.Mask.Size()
	return ones == 0 && route.Dst.IP.IsUnspecified()
}

func everyLink(links []netlink.Link) ([]netlink.Link, error) {
	found := filter(links, func(l netlink.Link) bool {
		return l.Attrs().EncapType != loopbackType && usable(l) == nil
	})
	if len(found) == 0 {
		return nil, errors.New("interface all: there is none that weir can read but loopback")
	}
	return found, nil
}

func matchingLinks(links []netlink.Link, patterns []string) (found []netlink.Link, first error) {
	for _, pattern := range patterns {
		matched, err := matching(links, pattern)
		found = append(found, matched...)
		if first == nil && !config.IsGlob(pattern) {
			first = err
		}
	}
	return found, first
}

// idleGlobs returns those of the patterns that are globs and find no interface, and why.
func idleGlobs(links []netlink.Link, patterns []string) (list []refusal) {
	for _, pattern := range patterns {
		if _, err := matching(links, pattern); err != nil && config.IsGlob(pattern) {
			list = append(list, refusal{name: pattern, err: err})
		}
	}
	return list
}

var errNone = errors.New("there is none")

func matching(links []netlink.Link, pattern string) ([]netlink.Link, error) {
	matched := filter(links, func(l netlink.Link) bool {
		ok, _ := path.Match(pattern, l.Attrs().Name) // the settings know that the pattern is valid
		return ok
	})
	if len(matched) == 0 {
		return nil, fmt.Errorf("interface %q: %w; there are %s", pattern, errNone, names(links))
	}
	// What a glob matches by accident must not stand in the way of the rest.
	fit := filter(matched, func(l netlink.Link) bool { return usable(l) == nil })
	if len(fit) > 0 {
		return fit, nil
	}
	var reasons []string
	for _, l := range matched {
		reasons = append(reasons, fmt.Sprintf("%q: %v", l.Attrs().Name, usable(l)))
	}
	return nil, errors.New("interface " + strings.Join(reasons, "; "))
}

// usable says why the kernel side could not read an interface's frames.
func usable(l netlink.Link) error {
	if kind := l.Attrs().EncapType; kind != ethernetType && kind != loopbackType && !bare(l) {
		return fmt.Errorf("its link type is %s, neither Ethernet nor IP", kind)
	}
	return nil
}

// bare says whether the frames of an interface have no link layer header.
func bare(l netlink.Link) bool { return slices.Contains(bareTypes, l.Attrs().EncapType) }

func filter(links []netlink.Link, keep func(netlink.Link) bool) []netlink.Link {
	return slices.DeleteFunc(slices.Clone(links), func(l netlink.Link) bool { return !keep(l) })
}

// toInterfaces sorts by index and leaves out what several patterns matched.
func toInterfaces(links []netlink.Link) []datapath.Interface {
	list := make([]datapath.Interface, 0, len(links))
	for _, l := range links {
		list = append(list, datapath.Interface{Index: l.Attrs().Index, Name: l.Attrs().Name, Bare: bare(l)})
	}
	slices.SortFunc(list, func(a, b datapath.Interface) int { return a.Index - b.Index })
	return slices.CompactFunc(list, func(a, b datapath.Interface) bool { return a.Index == b.Index })
}

func names(links []netlink.Link) string {
	list := make([]string, 0, len(links))
	for _, l := range links {
		list = append(list, l.Attrs().Name)
	}
	return strings.Join(list, ", ")
}
