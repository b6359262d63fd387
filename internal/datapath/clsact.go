package datapath

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Names of weir's filters. Which process one belongs to says its program's ID, which no other has while the filter is there.
// One that is pinned outlives its process: there is a sign of it in the folder of pins. For any other there is a sign of life.
const (
	filterName       = "weir"
	pinnedFilterName = "weir-pinned"
)

// qdisc names the clsact qdisc of an interface.
type qdisc struct {
	netns   uint8
	ifindex int
}

// qdiscs attaches programs through the clsact qdisc, and remembers on which interfaces it made the qdisc itself: only
// those may it remove.
type qdiscs struct {
	mu    sync.Mutex
	made  map[qdisc]bool
	holds map[qdisc][]filterHold
	pins  *pins
}

// attach adds a direct-action filter. What it returns removes the filter, and the qdisc when weir made it and nothing else
// uses it; its methods work in the network namespace of the calling thread, as attach does.
func (q *qdiscs) attach(on qdisc, side Side, prog *ebpf.Program) (hold, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.made == nil {
		q.made, q.holds = map[qdisc]bool{}, map[qdisc][]filterHold{}
	}
	info, err := prog.Info()
	if err != nil {
		return nil, fmt.Errorf("identify the program: %w", err)
	}
	id, _ := info.ID()
	h := filterHold{qdiscs: q, on: on, side: side, program: id}
	if err := q.ensure(on); err != nil {
		return nil, err
	}
	if err := q.place(&h, prog); err != nil {
		return nil, errors.Join(fmt.Errorf("add the filter: %w", err), q.release(on))
	}
	q.holds[on] = append(q.holds[on], h)
	return h, nil
}

// place puts a filter in the place of the one that another process left, of whatever version, or adds it. The signs come
// first: a process that looks at the filter must find them.
func (q *qdiscs) place(h *filterHold, prog *ebpf.Program) error {
	f := newFilter(h.on.ifindex, h.side, prog)
	left, err := q.leftBehind(h.on.ifindex, h.side)
	if err != nil {
		return err
	}
	if q.pins != nil {
		f.Name, h.adopted = pinnedFilterName, len(left) > 0
		_, err = q.pins.mark(h.on.ifindex, h.sign()...)
	} else {
		h.life, err = showLife(h.on.ifindex, h.side, h.program)
	}
	if err != nil {
		return err
	}
	if err := supersede(f, left); err != nil {
		return errors.Join(err, h.unmark(h.life))
	}
	for _, old := range left {
		err = errors.Join(err, q.pins.unmark(h.on.ifindex, filterSign(h.side, ebpf.ProgramID(old.Id))...))
	}
	return err
}

// supersede puts a filter in the place of the first of those that were left behind, and removes the others.
func supersede(f *netlink.BpfFilter, left []*netlink.BpfFilter) error {
	if len(left) == 0 {
		return netlink.FilterAdd(f)
	}
	f.Handle, f.Priority = left[0].Handle, left[0].Priority
	if err := netlink.FilterReplace(f); err != nil {
		return err
	}
	for _, other := range left[1:] {
		if err := netlink.FilterDel(other); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// leftBehind lists the filters on one side of an interface that a process left which is not there any more.
func (q *qdiscs) leftBehind(ifindex int, side Side) ([]*netlink.BpfFilter, error) {
	all, err := bpfFilters(ifindex, side)
	if err != nil {
		return nil, err
	}
	var left []*netlink.BpfFilter
	for _, f := range all {
		id := ebpf.ProgramID(f.Id)
		signed, err := q.pins.marked(ifindex, filterSign(side, id)...)
		if err != nil {
			return nil, err
		}
		if signed || f.Name == filterName && !alive(ifindex, side, id) {
			left = append(left, f)
		}
	}
	return left, nil
}

// filterHold is weir's filter on one side of an interface.
type filterHold struct {
	qdiscs  *qdiscs
	on      qdisc
	side    Side
	program ebpf.ProgramID
	life    io.Closer // the sign of life, nil with a folder of pins
	adopted bool      // it came in the place of one in the folder of pins
}

func (f filterHold) Held() (bool, error) {
	own, err := filtersOf(f.on.ifindex, f.side, f.program)
	if err != nil && !gone(err) {
		return false, err
	}
	return len(own) > 0, nil
}

// there is Held where a doubt means no.
func (f filterHold) there() bool {
	held, err := f.Held()
	return held && err == nil
}

func (f filterHold) Adopted() bool { return f.adopted }

func (f filterHold) Leave() error { return nil }

func (f filterHold) Close() error { return f.qdiscs.detach(f) }

// sign is of the filter in the folder of pins.
func (f filterHold) sign() []string { return filterSign(f.side, f.program) }

func filterSign(side Side, program ebpf.ProgramID) []string {
	return []string{string(side), string(ModeClsact), strconv.FormatUint(uint64(program), 10)}
}

// unmark takes the signs of the filter away.
func (f filterHold) unmark(life io.Closer) error {
	err := f.qdiscs.pins.unmark(f.on.ifindex, f.sign()...)
	if life != nil {
		err = errors.Join(err, life.Close())
	}
	return err
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

// bpfFilters lists the BPF filters on one side of an interface.
func bpfFilters(ifindex int, side Side) (list []*netlink.BpfFilter, err error) {
	all, err := listFilters(ifindex, side)
	for _, f := range all {
		if f, ok := f.(*netlink.BpfFilter); ok {
			list = append(list, f)
		}
	}
	return list, err
}

// filtersOf lists those of one program.
func filtersOf(ifindex int, side Side, program ebpf.ProgramID) ([]*netlink.BpfFilter, error) {
	all, err := bpfFilters(ifindex, side)
	return slices.DeleteFunc(all, func(f *netlink.BpfFilter) bool { return ebpf.ProgramID(f.Id) != program }), err
}

func listFilters(ifindex int, side Side) ([]netlink.Filter, error) {
	filters, err := netlink.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, parent(side))
	if err != nil {
		return nil, fmt.Errorf("list the filters: %w", err)
	}
	return filters, nil
}

// removeFilters removes a program's filters on one side of an interface, and says how many there were.
func removeFilters(ifindex int, side Side, program ebpf.ProgramID) (int, error) {
	own, err := filtersOf(ifindex, side, program)
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

// ensure makes the qdisc if the interface has none. One that another process made is weir's as long as a filter is on it that
// this process left: else somebody may have made another in its place.
func (q *qdiscs) ensure(on qdisc) error {
	err := netlink.QdiscAdd(clsact(on.ifindex))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the clsact qdisc: %w", err)
	}
	ours := err == nil || q.made[on]
	if !ours {
		if ours, err = q.inherited(on); err != nil {
			return err
		}
	}
	if !ours {
		return q.disown(on)
	}
	q.made[on] = true
	_, err = q.pins.mark(on.ifindex, qdiscMark)
	return err
}

func (q *qdiscs) inherited(on qdisc) (bool, error) {
	if made, err := q.pins.marked(on.ifindex, qdiscMark); !made || err != nil {
		return false, err
	}
	for _, side := range []Side{Ingress, Egress} {
		if left, err := q.leftBehind(on.ifindex, side); len(left) > 0 || err != nil {
			return err == nil, err
		}
	}
	return false, nil
}

// disown has weir leave the qdisc alone, now and after a restart.
func (q *qdiscs) disown(on qdisc) error {
	delete(q.made, on)
	return q.pins.unmark(on.ifindex, qdiscMark)
}

func (q *qdiscs) detach(h filterHold) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	removed, err := removeFilters(h.on.ifindex, h.side, h.program)
	if err != nil && !gone(err) {
		return err
	}
	q.forget(h)
	if err := h.unmark(h.life); err != nil {
		return err
	}
	if removed == 0 && !slices.ContainsFunc(q.holds[h.on], filterHold.there) {
		// Somebody else did, perhaps with the qdisc: one that is there now may be theirs.
		return q.disown(h.on)
	}
	return q.release(h.on)
}

func (q *qdiscs) forget(h filterHold) {
	left := slices.DeleteFunc(q.holds[h.on], func(other filterHold) bool { return other == h })
	if q.holds[h.on] = left; len(left) == 0 {
		delete(q.holds, h.on)
	}
}

// release removes the qdisc if weir made it and no filter is left on it.
func (q *qdiscs) release(on qdisc) error {
	if !q.made[on] {
		return nil
	}
	removed, err := releaseQdisc(on.ifindex)
	if !removed || err != nil {
		return err
	}
	return q.disown(on)
}

// releaseQdisc removes the qdisc, and says whether it did: not if there is a filter on it.
func releaseQdisc(ifindex int) (bool, error) {
	for _, side := range []Side{Ingress, Egress} {
		filters, err := listFilters(ifindex, side)
		if err != nil && !gone(err) {
			return false, err
		}
		if len(filters) > 0 {
			return false, nil
		}
	}
	if err := netlink.QdiscDel(clsact(ifindex)); err != nil && !gone(err) {
		return false, fmt.Errorf("remove the clsact qdisc: %w", err)
	}
	return true, nil
}

// gone says whether an error only means that the thing to remove, or its interface, is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
