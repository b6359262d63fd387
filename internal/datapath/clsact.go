package datapath

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// filterName tells weir's filters from others.
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
	err := removeFilters(ifindex, side) // what a weir left that was killed
	if err == nil {
		err = netlink.FilterAdd(newFilter(ifindex, side, prog))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add the filter: %w", err), q.release(ifindex))
	}
	return func() error { return q.detach(ifindex, side) }, nil
}

// newFilter makes a filter that comes before those of lower priority; the kernel finds it a handle of its own.
func newFilter(ifindex int, side Side, prog *ebpf.Program) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: parent(side), Protocol: unix.ETH_P_ALL, Priority: 1,
		},
		Fd:           prog.FD(),
		Name:         filterName,
		DirectAction: true,
	}
}

// removeFilters removes the filters on one side of an interface that have weir's name.
func removeFilters(ifindex int, side Side) error {
	filters, err := netlink.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, parent(side))
	if err != nil {
		return fmt.Errorf("list the filters: %w", err)
	}
	for _, f := range filters {
		if bpf, ok := f.(*netlink.BpfFilter); !ok || bpf.Name != filterName {
			continue
		}
		if err := netlink.FilterDel(f); err != nil && !gone(err) {
			return fmt.Errorf("remove the filter: %w", err)
		}
	}
	return nil
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

func (q *qdiscs) detach(ifindex int, side Side) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := removeFilters(ifindex, side); err != nil && !gone(err) {
		return err
	}
	return q.release(ifindex)
}

// release removes the qdisc if weir made it and no filter is left on it.
func (q *qdiscs) release(ifindex int) error {
	if !q.made[ifindex] {
		return nil
	}
	for _, side := range []Side{Ingress, Egress} {
		filters, err := netlink.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, parent(side))
		if err != nil && !gone(err) {
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
