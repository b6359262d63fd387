package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/enrich"
	"weir/internal/netwatch"
	"weir/internal/telemetry"
)

// attachments holds the programs on the interfaces, from attach to detach, and follows interfaces that come and go.
type attachments struct {
	want   config.Interfaces
	hook   config.IngressHook
	kernel *datapath.Datapath
	host   *enrich.Host
	log    *zap.Logger

	attached *prometheus.GaugeVec // by hook and mode
	lost     prometheus.Counter
	failed   prometheus.Counter

	mu      sync.Mutex
	current map[int][]*datapath.Attachment // by interface index
	refused map[int]time.Time              // when attaching failed, by interface index
}

// retryAfter is how soon an interface is tried again that could not be attached: the tries must not keep a node busy.
const retryAfter = time.Minute

func newAttachments(want config.Interfaces, hook config.IngressHook, kernel *datapath.Datapath, host *enrich.Host,
	log *zap.Logger, reg prometheus.Registerer,
) (*attachments, error) {
	a := &attachments{
		want:   want,
		hook:   hook,
		kernel: kernel,
		host:   host,
		log:    log,
		attached: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_attached_interfaces",
			Help: "Interfaces that a program is attached to, by hook and by how it is attached.",
		}, []string{"hook", "mode"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_interfaces_lost_total",
			Help: "Interfaces that went away while a program was attached to them.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_attach_failures_total",
			Help: "Tries to attach to an interface that appeared, in vain.",
		}),
		current: map[int][]*datapath.Attachment{},
		refused: map[int]time.Time{},
	}
	for _, side := range []datapath.Side{datapath.Ingress, datapath.Egress} {
		for _, mode := range datapath.Modes() {
			a.attached.WithLabelValues(string(side), string(mode)).Set(0)
		}
	}
	for _, collector := range []prometheus.Collector{a.attached, a.lost, a.failed} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register the attachments' metrics: %w", err)
		}
	}
	return a, nil
}

// attachAll attaches to both sides of every interface. If one fails, none stays attached.
func (a *attachments) attachAll(interfaces []net.Interface) error {
	for _, ifi := range interfaces {
		if err := a.attach(ifi); err != nil {
			return errors.Join(err, a.detachAll())
		}
	}
	return nil
}

func (a *attachments) attach(ifi net.Interface) error {
	a.host.Name(uint32(ifi.Index), ifi.Name)
	// Egress first: it has no side effects, where XDP can reset a link.
	egress, err := a.kernel.AttachEgress(ifi)
	if err != nil {
		return err
	}
	a.add(egress)
	ingress, err := a.kernel.AttachIngress(ifi, datapath.IngressHook(a.hook))
	if err != nil {
		return err
	}
	a.add(ingress)
	return nil
}

func (a *attachments) add(at *datapath.Attachment) {
	a.mu.Lock()
	a.current[at.Interface.Index] = append(a.current[at.Interface.Index], at)
	a.gauge(at).Inc()
	a.mu.Unlock()
	a.log.Info("attached", zap.String("interface", at.Interface.Name), zap.String("hook", string(at.Side)),
		zap.String("mode", string(at.Mode)), zap.String("why", at.Why))
}

func (a *attachments) gauge(at *datapath.Attachment) prometheus.Gauge {
	return a.attached.WithLabelValues(string(at.Side), string(at.Mode))
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
		a.gauge(at).Dec()
		errs = append(errs, at.Close())
	}
	delete(a.current, index)
	return errors.Join(errs...)
}

// Run follows interfaces that come, go and change their names, until ctx ends.
func (a *attachments) Run(ctx context.Context) error {
	groups := []uint{netwatch.Links}
	if a.want.Mode == config.InterfacesAuto {
		groups = append(groups, netwatch.IPv4Routes, netwatch.IPv6Routes)
	}
	return netwatch.Run(ctx, a.log, a.relist, groups...)
}

func (a *attachments) relist() error {
	links, err := netwatch.Whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	a.update(names)
	for _, ifi := range a.fresh() {
		if err := a.attach(ifi); err != nil {
			a.failed.Inc()
			a.mu.Lock()
			err = errors.Join(err, a.detach(ifi.Index))
			a.refused[ifi.Index] = time.Now()
			a.mu.Unlock()
			a.log.Warn("an interface appeared and cannot be attached", zap.String("interface", ifi.Name), zap.Error(err))
		}
	}
	return nil
}

// update forgets the interfaces that went away, and renames the others as they are called now, by index.
func (a *attachments) update(names map[int]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.refused, func(index int, _ time.Time) bool { return names[index] == "" })
	for index, list := range a.current {
		name, there := names[index]
		switch {
		case !there:
			a.lost.Inc()
			err := a.detach(index)
			a.log.Warn("an interface went away", zap.String("interface", list[0].Interface.Name),
				zap.Int("interfaces_left", len(a.current)), zap.NamedError("detach", err))
		case name != list[0].Interface.Name:
			a.host.Name(uint32(index), name)
			for _, at := range list {
				at.Interface.Name = name
			}
		}
	}
}

// fresh returns the interfaces that are wanted and not attached. That some pattern has none now is no error.
func (a *attachments) fresh() (list []net.Interface) {
	wants := []config.Interfaces{a.want}
	if a.want.Mode == config.InterfacesNamed {
		wants = nil
		for _, pattern := range a.want.Patterns {
			wants = append(wants, config.Interfaces{Mode: config.InterfacesNamed, Patterns: []string{pattern}})
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, want := range wants {
		found, err := findInterfaces(want)
		if err != nil {
			a.log.Debug("no interface to attach", zap.Error(err))
		}
		for _, ifi := range found {
			known := slices.ContainsFunc(list, func(other net.Interface) bool { return other.Index == ifi.Index })
			_, attached := a.current[ifi.Index]
			if !attached && !known && time.Since(a.refused[ifi.Index]) > retryAfter {
				list = append(list, ifi)
			}
		}
	}
	return list
}

// checks reports each attachment. Without any, weir counts nothing.
func (a *attachments) checks() []telemetry.Check {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.current) == 0 {
		return []telemetry.Check{{Name: "attach", Detail: "no interface is attached"}}
	}
	var list []telemetry.Check
	for _, index := range slices.Sorted(maps.Keys(a.current)) {
		for _, at := range a.current[index] {
			list = append(list, telemetry.Check{
				Name:   fmt.Sprintf("attach %q %s", at.Interface.Name, at.Side),
				OK:     true,
				Detail: fmt.Sprintf("%s: %q", at.Mode, at.Why),
			})
		}
	}
	return list
}
