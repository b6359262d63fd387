package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/enrich"
	"weir/internal/netwatch"
	"weir/internal/telemetry"
)

// attachments holds the programs on the interfaces of one network namespace, from attach to detach, and follows interfaces
// that come and go. All calls but of checks are made on threads inside the namespace.
type attachments struct {
	attaching
	netns   uint8  // its number
	name    string // what it is called; "" is the agent's own
	host    *enrich.Host
	log     *zap.Logger
	checked time.Time // when the attachments were last looked after

	mu      sync.Mutex
	current map[int][]*datapath.Attachment // by interface index
	refused map[int]refusal                // by interface index
	missing []string                       // names that were asked for, of which there is no interface to attach to
	idle    []telemetry.Check              // of what finds no interface now
	waited  bool                           // it was logged that nothing is found in this namespace, or something was
}

// attaching is what the attachments of all namespaces share.
type attaching struct {
	want    config.Interfaces
	hook    config.IngressHook
	stay    bool // attached, when the process ends
	kernel  *datapath.Datapath
	node    *enrich.Node
	rested  func(since time.Time) bool // whether no flow in the map is from before that time
	log     *zap.Logger
	metrics *metrics
}

const (
	// retryAfter is how soon an interface is tried again that could not be attached: the tries must not keep a node busy.
	retryAfter = time.Minute
	// checkAfter is how soon the attachments are looked after again. Two that remove each other's must not keep a node
	// busy either.
	checkAfter = 10 * time.Second
)

var sides = []datapath.Side{datapath.Egress, datapath.Ingress} // this order: XDP can reset a link

// in returns the attachments of a namespace, none yet.
func (a attaching) in(netns uint8, name string) *attachments {
	log := a.log
	if name != "" {
		log = log.With(zap.String("netns", name))
	}
	host := enrich.New(name)
	a.node.Set(netns, host)
	return &attachments{
		attaching: a,
		netns:     netns,
		name:      name,
		host:      host,
		log:       log,
		current:   map[int][]*datapath.Attachment{},
		refused:   map[int]refusal{},
	}
}

// attachAll attaches to both sides of every interface. What was not asked for by its name, but by a glob, auto or all, is passed
// over if it fails, as it is later on, unless nothing else is there. After an error some may be attached: it is for undo.
// ctx can end it between two interfaces, which is none: the ones that are attached have counted, and are stopped as ever.
func (a *attachments) attachAll(ctx context.Context, interfaces []datapath.Interface) error {
	var errs []error
	for _, ifi := range interfaces {
		if ctx.Err() != nil {
			return nil
		}
		err := a.attach(ifi)
		if err == nil {
			continue
		}
		if a.want.Mode == config.InterfacesNamed && slices.Contains(a.want.Patterns, ifi.Name) {
			return err
		}
		a.refuse(ifi, err)
		errs = append(errs, err)
	}
	if len(errs) == len(interfaces) {
		return errors.Join(errs...)
	}
	return nil
}

// refuse lets go of an interface that cannot be attached on both sides, until it is tried again.
func (a *attachments) refuse(ifi datapath.Interface, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err = errors.Join(err, a.detach(ifi.Index))
	if _, missing := netlink.LinkByIndex(ifi.Index); errors.As(missing, new(netlink.LinkNotFoundError)) {
		a.log.Debug("an interface went away before it was attached", zap.String("interface", ifi.Name), zap.Error(err))
		return
	}
	a.refused[ifi.Index] = refusal{name: ifi.Name, err: err, at: time.Now()}
	a.metrics.failed.Inc()
	a.log.Warn("an interface cannot be attached", zap.String("interface", ifi.Name), zap.Error(err))
}

// attach attaches to the sides of an interface where nothing is.
func (a *attachments) attach(ifi datapath.Interface) error {
	ifi.Netns = a.netns
	for _, side := range sides {
		if a.attachedTo(ifi.Index, side) {
			continue
		}
		at, err := a.kernel.Attach(ifi, side, datapath.IngressHook(a.hook))
		if err != nil {
			return err
		}
		a.add(at)
	}
	return nil
}

func (a *attachments) attachedTo(index int, side datapath.Side) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.current[index], func(at *datapath.Attachment) bool { return at.Side == side })
}

// interfaces says how many are attached.
func (a *attachments) interfaces() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.current)
}

func (a *attachments) add(at *datapath.Attachment) {
	a.mu.Lock()
	a.current[at.Interface.Index] = append(a.current[at.Interface.Index], at)
	a.metrics.count(at, 1)
	a.mu.Unlock()
	a.log.Info("attached", zap.String("interface", at.Interface.Name), zap.String("hook", string(at.Side)),
		zap.String("mode", string(at.Mode)), zap.String("why", at.Why))
}

// end detaches everything, or lets it stay attached for the next process.
func (a *attachments) end() error {
	if !a.stay {
		return a.detachAll()
	}
	return a.letGo((*datapath.Attachment).Leave)
}

// undo detaches everything but what another process had left attached.
func (a *attachments) undo() error { return a.letGo((*datapath.Attachment).Undo) }

func (a *attachments) letGo(how func(*datapath.Attachment) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, list := range a.current {
		for _, at := range list {
			a.metrics.count(at, -1)
			errs = append(errs, how(at))
		}
	}
	clear(a.current)
	return errors.Join(errs...)
}

// detachAll detaches everything, whatever fails on the way.
func (a *attachments) detachAll() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for index := range a.current {
		errs = append(errs, a.detach(index))
	}
	return errors.Join(errs...)
}

// detach is called with the lock held.
func (a *attachments) detach(index int) error {
	var errs []error
	for _, at := range a.current[index] {
		a.metrics.count(at, -1)
		errs = append(errs, at.Close())
	}
	delete(a.current, index)
	return errors.Join(errs...)
}

// Run follows interfaces that come, go and change their names, and the namespace's addresses, until ctx ends.
func (a *attachments) Run(ctx context.Context) error {
	groups := []uint{netwatch.Links, netwatch.IPv4Addresses, netwatch.IPv6Addresses}
	if a.want.Mode == config.InterfacesAuto {
		groups = append(groups, netwatch.IPv4Routes, netwatch.IPv6Routes)
	}
	return netwatch.Run(ctx, a.log, func() error { return a.relist(ctx) }, groups...)
}

// relist has the attachments be as the interfaces are now; ctx can end it between two interfaces.
func (a *attachments) relist(ctx context.Context) error {
	loose := a.loose() // before the interfaces are listed: one that is deleted leaves the list before its programs leave it
	links, err := a.look()
	if err != nil {
		return err
	}
	a.update(links)
	a.drop(loose)
	wanted, err := findInterfaces(links, a.want)
	if err != nil { // now; at the start it was one
		a.log.Debug("no interface to attach", zap.Error(err))
	}
	a.await(links, wanted, err)
	for _, ifi := range a.fresh(wanted) {
		if ctx.Err() != nil {
			return nil
		}
		if err := a.attach(ifi); err != nil {
			a.refuse(ifi, err)
		}
	}
	return nil
}

// await notes what finds no interface. Globs are meant for all namespaces, so in others than the agent's own that is told only
// if nothing at all is found; none is the error of that.
func (a *attachments) await(links []netlink.Link, wanted []datapath.Interface, none error) {
	globs := idleGlobs(links, a.want.Patterns)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = nil
	switch {
	case a.netns == 0:
		for _, glob := range globs {
			detail := "no interface matches now"
			if !errors.Is(glob.err, errNone) {
				detail = fmt.Sprintf("%q", glob.err)
			}
			a.idle = append(a.idle, telemetry.Check{Name: fmt.Sprintf("attach %q", glob.name), OK: true, Detail: detail})
		}
	case len(wanted)+len(a.current) > 0:
		a.waited = true
	default:
		for _, glob := range globs {
			none = cmp.Or(none, glob.err)
		}
		a.idle = []telemetry.Check{{Name: "attach" + a.where(), OK: true, Detail: fmt.Sprintf("%q", none)}}
		if !a.waited {
			a.waited = true
			a.log.Warn("nothing to attach in a network namespace yet", zap.Error(none))
		}
	}
}

// look lists the interfaces and the addresses that there are.
func (a *attachments) look() ([]netlink.Link, error) {
	if err := a.host.Refresh(); err != nil {
		return nil, err
	}
	links, err := listLinks()
	if err != nil {
		return nil, err
	}
	names := make(map[uint32]string, len(links))
	for _, l := range links {
		names[uint32(l.Attrs().Index)] = l.Attrs().Name
	}
	a.host.SetInterfaces(names, a.rested)
	return links, nil
}

// update forgets the interfaces that went away, and renames the others as they are called now.
func (a *attachments) update(links []netlink.Link) {
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missing = slices.DeleteFunc(slices.Clone(a.want.Patterns), func(pattern string) bool {
		_, err := matching(links, pattern)
		return err == nil || config.IsGlob(pattern)
	})
	for index, list := range a.current {
		name, there := names[index]
		if !there {
			a.metrics.lost.Inc()
			err := a.detach(index)
			a.log.Warn("an interface went away", zap.String("interface", list[0].Interface.Name),
				zap.Int("interfaces_left", len(a.current)), zap.NamedError("detach", err))
			continue
		}
		for _, at := range list {
			at.Interface.Name = name
		}
	}
}

// loose returns the attachments that are none any more, if it is time to look after them.
func (a *attachments) loose() (list []*datapath.Attachment) {
	if time.Since(a.checked) < checkAfter {
		return nil
	}
	a.checked = time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ats := range a.current {
		for _, at := range ats {
			held, err := at.Held()
			if err != nil {
				a.log.Warn("an attachment cannot be looked after", zap.Error(err))
			} else if !held {
				list = append(list, at)
			}
		}
	}
	return list
}

// drop lets go of the attachments that somebody else removed from interfaces that are still there, so that they are made again.
func (a *attachments) drop(loose []*datapath.Attachment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range loose {
		index := at.Interface.Index
		list := a.current[index]
		i := slices.Index(list, at)
		if i < 0 {
			continue // the interface went away
		}
		if a.current[index] = slices.Delete(list, i, i+1); len(a.current[index]) == 0 {
			delete(a.current, index)
		}
		a.metrics.removed.Inc()
		a.metrics.count(at, -1)
		a.log.Warn("somebody removed weir's program", zap.String("interface", at.Interface.Name),
			zap.String("hook", string(at.Side)), zap.String("mode", string(at.Mode)), zap.NamedError("detach", at.Close()))
	}
}

// fresh returns those of the interfaces that are wanted which are not attached on both sides, and are to be tried. What is not
// wanted any more is not refused either.
func (a *attachments) fresh(wanted []datapath.Interface) (list []datapath.Interface) {
	a.mu.Lock()
	defer a.mu.Unlock()
	refused := a.refused
	a.refused = map[int]refusal{}
	for _, ifi := range wanted {
		if len(a.current[ifi.Index]) == len(sides) {
			continue
		}
		if r, ok := refused[ifi.Index]; ok && !r.over() {
			a.refused[ifi.Index] = r
			continue
		}
		list = append(list, ifi)
	}
	return list
}

// where names the namespace, if it is not the agent's own.
func (a *attachments) where() string {
	if a.name == "" {
		return ""
	}
	return fmt.Sprintf(" in %q", a.name)
}

// checks reports each attachment, and what should be one and is not.
func (a *attachments) checks() (list []telemetry.Check) {
	a.mu.Lock()
	defer a.mu.Unlock()
	where := a.where()
	for _, index := range slices.Sorted(maps.Keys(a.current)) {
		for _, at := range a.current[index] {
			list = append(list, telemetry.Check{
				Name:   fmt.Sprintf("attach %q %s%s", at.Interface.Name, at.Side, where),
				OK:     true,
				Detail: fmt.Sprintf("%s: %q", at.Mode, at.Why),
			})
		}
	}
	refused := slices.Collect(maps.Values(a.refused))
	if a.netns == 0 { // elsewhere it may be missing: the names are meant for all namespaces
		for _, name := range a.missing {
			refused = append(refused, refusal{name: name, err: errMissing})
		}
	}
	return append(list, refusals("attach", where, refused)...)
}

// idleChecks reports what finds no interface, which is no reason to be not ready as long as something else is attached.
func (a *attachments) idleChecks() []telemetry.Check {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.idle)
}

var errMissing = errors.New("there is no such interface that weir can read")
