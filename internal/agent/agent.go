// Package agent puts weir together: it builds the parts, runs them, and stops them in the order in which data passes
// them, so that nothing is lost between two.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"weir/internal/collect"
	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/deliver"
	"weir/internal/enrich"
	"weir/internal/flow"
	"weir/internal/identify"
	"weir/internal/known"
	"weir/internal/telemetry"
)

// saveTimeout is how long a stop waits for what is known to be saved, a file of 800 KB at most.
const saveTimeout = 2 * time.Second

// Build says what is running.
type Build struct {
	Version string
	Commit  string
}

// Agent is the whole of weir.
type Agent struct {
	settings config.Settings
	build    Build
	stdout   io.Writer
	log      *zap.Logger
	pinned   bool        // programs and maps stay when the process ends
	working  atomic.Bool // the start has come through
	stopping atomic.Bool
	sealed   *sealed
	opened   bool // the deliverer

	last    sync.Mutex // held while the last word on what is left is logged
	settled bool       // nothing is left that an end at once could lose

	kernel      *datapath.Datapath
	attachments *attachments
	namespaces  *namespaces
	collector   *collect.Collector
	known       *known.Known
	deliverer   *deliver.Deliverer
	server      *telemetry.Server
}

// New returns what Run runs. Events go to stdout if the settings name no other place.
func New(s config.Settings, build Build, stdout io.Writer, log *zap.Logger) *Agent {
	return &Agent{settings: s, build: build, stdout: stdout, log: log, pinned: s.PinDir != "", sealed: newSealed()}
}

// Run starts what the settings ask for and works until ctx ends, then stops: it detaches, has the kernel hand over all that is
// left, and delivers it within the stop timeout. It returns nil after such a stop, also if it came during the start, and an
// error when the start or a part failed. After a start that failed or was stopped nothing stays attached but what another
// process left in the folder of pins. Run may be called once.
func (a *Agent) Run(ctx context.Context) error {
	switch err := a.start(ctx); {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		a.log.Info("stopped before anything was counted")
		return a.close()
	case err != nil:
		return errors.Join(err, a.close())
	}
	a.working.Store(true)
	return a.work(ctx)
}

// start loads and attaches everything: what can fail without a trace comes first, and what can fail at all before the first
// packet is counted.
func (a *Agent) start(ctx context.Context) error {
	links, err := listLinks()
	if err != nil {
		return err
	}
	interfaces, err := findInterfaces(links, a.settings.Interface)
	if err != nil {
		return err
	}
	for _, glob := range idleGlobs(links, a.settings.Interface.Patterns) {
		a.log.Warn("a glob finds nothing yet; what matches is attached when it comes", zap.String("glob", glob.name), zap.Error(glob.err))
	}
	tightenMemory()
	reg := prometheus.NewRegistry()
	for _, step := range []func() error{
		func() error { return a.listen(reg) },
		func() error { return a.load(ctx, reg) },
		func() error { _, err := a.attachments.look(); return err },
		a.open,
		func() error { return a.attachments.attachAll(ctx, interfaces) },
	} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) listen(reg *prometheus.Registry) (err error) {
	a.server, err = telemetry.Listen(telemetry.Config{
		Listen: a.settings.Listen, Live: a.live, Ready: a.ready, Gatherer: reg,
	}, a.log)
	return err
}

// open follows load, as it writes to disk: a start that the kernel does not permit leaves alone what an earlier run left there.
func (a *Agent) open() error {
	if err := a.known.Open(); err != nil {
		return err
	}
	if err := a.deliverer.Open(); err != nil {
		return err
	}
	a.opened = true
	return nil
}

func (a *Agent) newDeliverer(reg *prometheus.Registry) (err error) {
	cfg := deliverConfig(a.settings, a.build, a.stdout)
	cfg.Sealed = func(id flow.EventID) {
		a.kernel.Release(id)
		a.sealed.note(id)
	}
	a.deliverer, err = deliver.New(cfg, a.log, reg)
	return err
}

func (a *Agent) newKnown(s config.Settings, reg *prometheus.Registry) (err error) {
	if a.known, err = known.New(knownConfig(s), a.log, reg); err != nil {
		return err
	}
	return a.known.Load(time.Now())
}

func (a *Agent) newCollector(s config.Settings, node *enrich.Node, reg *prometheus.Registry) error {
	cfg, err := collectConfig(s)
	if err != nil {
		return err
	}
	identifier, err := identify.New(identifyConfig(s, a.known), collect.SystemClock, reg)
	if err != nil {
		return err
	}
	a.collector, err = collect.New(cfg, a.kernel, node, identifier, collect.SystemClock, a.deliverer, a.log, reg)
	return err
}

// load loads the kernel side and makes what works on it.
func (a *Agent) load(ctx context.Context, reg *prometheus.Registry) error {
	s := a.settings
	if err := a.newDeliverer(reg); err != nil {
		return err
	}
	if err := a.newKnown(s, reg); err != nil {
		return err
	}
	kernelConfig := datapathConfig(s)
	kernelConfig.PinDir = s.PinDir
	var err error
	if a.kernel, err = loadKernel(ctx, kernelConfig); err != nil {
		return err
	}
	if a.kernel.Resumed() {
		a.log.Info("going on with the flow map that another agent left", zap.String("folder", s.PinDir))
	}
	node := new(enrich.Node)
	if err := a.newCollector(s, node, reg); err != nil {
		return err
	}
	m, err := newMetrics(reg)
	if err != nil {
		return err
	}
	rest := max(s.TCPIdleTimeout, s.UDPIdleTimeout)
	shared := attaching{
		want: s.Interface, hook: s.IngressHook, stay: a.pinned, kernel: a.kernel, node: node, log: a.log, metrics: m,
		rested: func(since time.Time) bool { return a.collector.Swept().After(since.Add(rest)) },
	}
	a.attachments = shared.in(0, "")
	if a.namespaces, err = newNamespaces(s.Netns, shared); err != nil {
		return err
	}
	for _, c := range []prometheus.Collector{
		telemetry.NewKernelCollector(a.kernel, a.collector.Audit),
		telemetry.NewBuildCollector(a.build.Version, a.build.Commit, datapath.ObjectHash()),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register the agent's metrics: %w", err)
		}
	}
	return nil
}

// loadKernel leaves the verifier alone when ctx ends: it takes seconds on a busy machine, and cannot be interrupted but by the
// end of the process, with which what it loaded goes too, but for what it has pinned by then: that is the next start's.
func loadKernel(ctx context.Context, cfg datapath.Config) (*datapath.Datapath, error) {
	type result struct {
		kernel *datapath.Datapath
		err    error
	}
	loaded := make(chan result, 1)
	go func() {
		kernel, err := datapath.Load(cfg)
		loaded <- result{kernel, err}
	}()
	select {
	case r := <-loaded:
		return r.kernel, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// task is something that runs beside the rest.
type task struct {
	done chan struct{}
	err  error // once done is closed
}

func begin(run func() error) *task {
	t := &task{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = run()
	}()
	return t
}

func (t *task) wait() error {
	<-t.done
	return t.err
}

// work runs what start made until ctx ends, and stops it.
func (a *Agent) work(ctx context.Context) error {
	a.log.Info("counting", zap.Int("interfaces", a.attachments.interfaces()), zap.String("metrics", a.server.Addr().String()))

	// What serves the others outlives them: each of these ends when those before it in the way of a packet have.
	serving, stopServing := context.WithCancel(context.Background())
	delivering, abandon := context.WithCancel(context.Background())
	defer abandon()
	// Done when the time to stop is over. It runs from the moment that the work is to end, not from when it has: the
	// collector may be waiting for a slow Brain, and is freed by delivery's end.
	stopping, timeout := context.WithCancel(context.Background())
	defer timeout()
	defer context.AfterFunc(stopping, abandon)()
	server := begin(func() error { return a.server.Run(serving) })
	knowing := begin(func() error { return a.known.Run(serving) })
	delivery := begin(func() error { return a.deliverer.Run(delivering) })

	group, working := errgroup.WithContext(ctx)
	defer context.AfterFunc(working, func() { time.AfterFunc(a.settings.StopTimeout, timeout) })()
	group.Go(func() error { return a.collect(working) })
	group.Go(func() error { return errors.Join(a.attachments.Run(working), a.attachments.end()) })
	group.Go(func() error { return a.namespaces.Run(working) })
	group.Go(func() error {
		select {
		case <-working.Done():
			return nil
		case <-delivery.done:
			return errors.New("delivery ended")
		case <-server.done:
			return errors.New("the metrics server ended")
		}
	})
	err := group.Wait()
	a.stopping.Store(true)
	err = errors.Join(err, a.stop(stopping, delivery))
	stopServing()
	a.awaitSave(knowing)
	return errors.Join(err, server.wait(), a.kernel.Close())
}

// awaitSave waits until what is known is saved, but not for a disk that hangs.
func (a *Agent) awaitSave(knowing *task) {
	select {
	case <-knowing.done:
	case <-time.After(saveTimeout):
		a.log.Error("the memory of fingerprints is not saved: the disk does not answer")
	}
}

// stop follows the way of a packet, of which there are no more: what the map holds, then what the queue holds. It leaves
// when ctx ends, and says what it left behind.
func (a *Agent) stop(ctx context.Context, delivery *task) error {
	var err error
	if a.pinned {
		a.log.Info("the kernel goes on counting, delivering what it has handed over", zap.Duration("timeout", a.settings.StopTimeout))
	} else {
		a.log.Info("detached, delivering what is left", zap.Duration("timeout", a.settings.StopTimeout))
		err = a.collector.Drain(ctx)
	}
	a.deliverer.Close()
	err = errors.Join(err, delivery.wait())
	a.last.Lock()
	defer a.last.Unlock()
	a.settled = true
	return errors.Join(err, a.report())
}

// report logs the books for the last time: nobody can scrape them any more.
func (a *Agent) report() error {
	ledger, err := a.kernel.Ledger()
	if err != nil {
		return err
	}
	packets := func(of map[string]flow.Counter) (sum uint64) {
		for _, c := range of {
			sum += c.Packets
		}
		return sum
	}
	audit := a.collector.Audit()
	a.log.Info("stopped", zap.Uint64("packets_seen", packets(ledger.Seen)), zap.Uint64("packets_counted", ledger.Counted.Packets),
		zap.Uint64("packets_uncounted", packets(ledger.Uncounted)),
		zap.Uint64("packets_exported", ledger.Exported.Packets), zap.Uint64("packets_evicted", ledger.Evicted.Packets),
		zap.Int64("packets_unaccounted", audit.UnaccountedPackets),
		zap.Uint64("flows_left", ledger.Occupied()))
	return nil
}

// GiveUp logs what is lost when the process ends at once, unless a stop has settled that. It may be called beside Run.
func (a *Agent) GiveUp() {
	if !a.working.Load() {
		return
	}
	a.last.Lock()
	defer a.last.Unlock()
	if a.settled {
		return
	}
	left := a.deliverer.Left()
	fields := []zap.Field{zap.Int("events_lost", left.Memory), zap.Int("events_kept_in_spool", left.Spool)}
	if ledger, err := a.kernel.Ledger(); err == nil {
		fields = append(fields, zap.Uint64("flows_left", ledger.Occupied()), zap.Bool("flows_pinned", a.pinned))
	}
	a.log.Warn("ended without delivering what was left", fields...)
}

// close undoes a start that failed.
func (a *Agent) close() error {
	var errs []error
	if a.attachments != nil {
		errs = append(errs, a.attachments.undo())
	}
	if a.opened {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		errs = append(errs, a.deliverer.Run(ended))
	}
	if a.server != nil {
		errs = append(errs, a.server.Close())
	}
	if a.kernel != nil {
		errs = append(errs, a.kernel.Close())
	}
	return errors.Join(errs...)
}
