package datapath

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// filterName tells weir's filters from others.
const filterName = "weir"

// qdisc names the clsact qdisc of an interface.
type qdisc struct {
	netns   uint8
	ifindex int
}

// qdiscs attaches programs through the clsact qdisc, and remembers on which interfaces it made the qdisc itself: only
// those may it remove.
type qdiscs struct {
	mu   sync.Mutex
	made map[qdisc]bool
}

// attach adds a direct-action filter. What it returns removes the filter, and the qdisc when weir made it and nothing else
// uses it; its methods work in the network namespace of the calling thread, as attach does.
func (q *qdiscs) attach(on qdisc, side Side, prog *ebpf.Program) (hold, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.ensure(on); err != nil {
		return nil, err
	}
	_, err := removeFilters(on.ifindex, side) // what a weir left that was killed
	if err == nil {
		err = netlink.FilterAdd(newFilter(on.ifindex, side, prog))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add the filter: %w", err), q.release(on))
	}
	return filterHold{q, on, side}, nil
}

// filterHold is weir's filter on one side of an interface.
type filterHold struct {
	qdiscs *qdiscs
	on     qdisc
	side   Side
}

func (f filterHold) Held() (bool, error) {
	own, err := ownFilters(f.on.ifindex, f.side)
	if err != nil && !gone(err) {
		return false, err
	}
	return len(own) > 0, nil
}

func (f filterHold) Close() error { return f.qdiscs.detach(f.on, f.side) }

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

// ownFilters lists the filters on one side of an interface that have weir's name.
func ownFilters(ifindex int, side Side) ([]netlink.Filter, error) {
	filters, err := listFilters(ifindex, side)
	return slices.DeleteFunc(filters, func(f netlink.Filter) bool {
		bpf, ok := f.(*netlink.BpfFilter)
		return !ok || bpf.Name != filterName
	}), err
}

func listFilters(ifindex int, side Side) ([]netlink.Filter, error) {
	filters, err := netlink.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, parent(side))
	if err != nil {
		return nil, fmt.Errorf("list the filters: %w", err)
	}
	return filters, nil
}

// removeFilters removes weir's filters on one side of an interface, and says how many there were.
func removeFilters(ifindex int, side Side) (int, error) {
	own, err := ownFilters(ifindex, side)
	if err != nil {
		return 0, err
	}
	for _, f := range own {
		if err := netlink.FilterDel(f); err != nil && !gone(err) {
			return 0, fmt.Errorf("remove the filter: %w", err)
		}
	}
	return len(own), nil
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
func (q *qdiscs) ensure(on qdisc) error {
	switch err := netlink.QdiscAdd(clsact(on.ifindex)); {
	case err == nil:
		if q.made == nil {
			q.made = map[qdisc]bool{}
		}
		q.made[on] = true
	case !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("add the clsact qdisc: %w", err)
	}
	return nil
}

func (q *qdiscs) detach(on qdisc, side Side) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	removed, err := removeFilters(on.ifindex, side)
	if err != nil && !gone(err) {
		return err
	}
	if removed == 0 {
		// Somebody else did, perhaps with the qdisc: one that is there now may be theirs.
		delete(q.made, on)
	}
	return q.release(on)
}

// release removes the qdisc if weir made it and no filter is left on it.
func (q *qdiscs) release(on qdisc) error {
	if !q.made[on] {
		return nil
	}
	for _, side := range []Side{Ingress, Egress} {
		filters, err := listFilters(on.ifindex, side)
		if err != nil && !gone(err) {
			return err
		}
		if len(filters) > 0 {
			return nil
		}
	}
	delete(q.made, on)
	if err := netlink.QdiscDel(clsact(on.ifindex)); err != nil && !gone(err) {
		return fmt.Errorf("remove the clsact qdisc: %w", err)
	}
	return nil
}

// gone says whether an error only means that the thing to remove, or its interface, is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
