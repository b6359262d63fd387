package datapath

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const filterName = "weir"

// qdiscs attaches programs through the clsact qdisc, and remembers on which interfaces it made the qdisc itself: only
// those may it remove.
type qdiscs struct {
	mu   sync.Mutex
	made map[int]bool
}

// attach adds a direct-action filter. The function it returns removes the filter, and the qdisc when weir made it and
// nothing else uses it.
func (q *qdiscs) attach(ifindex int, side Side, prog *ebpf.Program) (func() error, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.ensure(ifindex); err != nil {
		return nil, err
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex,
			Parent:    parent(side),
			Handle:    1,
			Protocol:  unix.ETH_P_ALL,
			Priority:  1,
		},
		Fd:           prog.FD(),
		Name:         filterName,
		DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		return nil, errors.Join(fmt.Errorf("add the filter: %w", err), q.release(ifindex))
	}
	return func() error { return q.detach(filter) }, nil
}

func parent(side Side) uint32 {
	if side == Egress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

func clsact(ifindex int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}}
}

// ensure makes the qdisc if the interface has none.
func (q *qdiscs) ensure(ifindex int) error {
	switch err := netlink.QdiscAdd(clsact(ifindex)); {
	case err == nil:
		if q.made == nil {
			q.made = map[int]bool{}
		}
		q.made[ifindex] = true
	case !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("add the clsact qdisc: %w", err)
	}
	return nil
}

func (q *qdiscs) detach(filter *netlink.BpfFilter) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := netlink.FilterDel(filter); err != nil && !gone(err) {
		return fmt.Errorf("remove the filter: %w", err)
	}
	return q.release(filter.LinkIndex)
}

// release removes the qdisc if weir made it and no filter is left on it.
func (q *qdiscs) release(ifindex int) error {
	if !q.made[ifindex] {
		return nil
	}
	link, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		delete(q.made, ifindex)
		return nil // the interface is gone, and its qdisc with it
	}
	for _, side := range []Side{Ingress, Egress} {
		filters, err := netlink.FilterList(link, parent(side))
		if err != nil {
			return fmt.Errorf("list the filters: %w", err)
		}
		if len(filters) > 0 {
			return nil
		}
	}
	delete(q.made, ifindex)
	if err := netlink.QdiscDel(clsact(ifindex)); err != nil && !gone(err) {
		return fmt.Errorf("remove the clsact qdisc: %w", err)
	}
	return nil
}

// gone says whether an error only means that the thing to remove, or its interface, is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
