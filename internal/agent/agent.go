// Package agent puts weir together: it builds the parts, runs them, and stops them in the order in which data passes
// them, so that nothing is lost between two.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	"weir/internal/spool"
	"weir/internal/telemetry"
)

// requestTimeout bounds one POST to the Brain, which commits a database transaction for it.
const requestTimeout = 30 * time.Second

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
		_, err := matching(links, glob)
		a.log.Warn("a glob finds nothing yet; what matches is attached when it comes", zap.Error(err))
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
// end of the process, with which what it loaded goes too.
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

func deliverConfig(s config.Settings, build Build, stdout io.Writer) deliver.Config {
	cfg := deliver.Config{
		URL:            s.EndpointURL.URL,
		Path:           s.EndpointURL.Path,
		BatchSize:      s.BatchSize,
		SendInterval:   s.SendInterval,
		Format:         deliver.Format(s.BatchFormat),
		Compression:    deliver.Compression(s.Compression),
		QueueMaxBytes:  int64(s.QueueMaxBytes),
		MaxAge:         s.QueueMaxAge,
		Concurrency:    s.SendConcurrency,
		BacklogShare:   s.BacklogShare,
		QuarantinePath: s.QuarantineFile,
		RequestTimeout: requestTimeout,
		UserAgent:      "weir/" + build.Version,
		Credentials: deliver.Credentials{
			TokenPath: s.TokenFile, CAPath: s.TLSCAFile, CertPath: s.TLSCertFile, KeyPath: s.TLSKeyFile,
		},
		Stdout: stdout,
	}
	if s.SpoolDir == "" {
		return cfg
	}
	cfg.Spool = &spool.Config{Dir: s.SpoolDir, MaxBytes: int64(s.SpoolMaxBytes), Sync: spool.Policy(s.SpoolSync)}
	if cfg.QuarantinePath == "" {
		cfg.QuarantinePath = filepath.Join(s.SpoolDir, "quarantine.ndjson")
	}
	return cfg
}

func datapathConfig(s config.Settings) datapath.Config {
	return datapath.Config{
		MaxFlows: s.MaxFlows, Sampling: s.Sampling, VLANZones: s.Zones == config.ZonesVLAN, Decap: s.Decap,
		Filter: s.BPFFilter.Program, Samples: samplesOf(s.Fingerprints), SampleRate: s.FingerprintRate,
	}
}

func collectConfig(s config.Settings) (collect.Config, error) {
	hostname := s.Hostname
	if hostname == "" {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return collect.Config{}, fmt.Errorf("find the host's name (or set NODE_NAME): %w", err)
		}
	}
	return collect.Config{
		Limits: flow.Limits{
			TCPIdle: s.TCPIdleTimeout, OtherIdle: s.UDPIdleTimeout, Active: s.ActiveTimeout, Linger: s.CloseLinger,
		},
		Connections: s.FlowShape == config.ShapeConnection,
		MaxFlows:    int(s.MaxFlows),
		HighWater:   s.HighWater,
		Hostname:    hostname,
	}, nil
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
	return errors.Join(err, server.wait(), knowing.wait(), a.kernel.Close())
}

// collect runs the collector. With a folder of pins it begins when all network namespaces are entered: flows that another
// process left are told apart only then.
func (a *Agent) collect(ctx context.Context) error {
	if a.pinned {
		select {
		case <-ctx.Done():
			return nil
		case <-a.namespaces.entered:
		}
		a.takeOver(ctx)
	}
	return a.collector.Run(ctx)
}

// takeOver finishes what the last process left in the folder of pins, once everything is attached: programs that are not
// wanted any more, and maps of another layout or size.
func (a *Agent) takeOver(ctx context.Context) {
	outOfReach, err := a.kernel.Settle()
	if outOfReach > 0 {
		a.log.Warn("another process may have left filters in network namespaces that are not watched now, which stay",
			zap.Int("filters", outOfReach))
	}
	if err != nil {
		a.log.Error("what another process left attached cannot be detached; what it counted is not taken over", zap.Error(err))
		return // programs may still count there
	}
	if err := a.inheritAll(ctx); err != nil {
		a.log.Error("what another process counted is not taken over, and stays in the kernel", zap.Error(err))
	}
}

// inheritAll takes over what other processes counted, one folder of maps after the other: a start that is soon followed by a
// stop gets further than the one before it. Maps that cannot be read are in the way of no others.
func (a *Agent) inheritAll(ctx context.Context) error {
	folders, err := a.kernel.Former()
	if len(folders) > 0 {
		a.log.Info("taking over what was counted in maps of another layout or size", zap.Int("folders", len(folders)))
	}
	errs := []error{err}
	for i, folder := range folders {
		if ctx.Err() != nil {
			return errors.Join(append(errs, fmt.Errorf("%d folders of maps are left: %w", len(folders)-i, ctx.Err()))...)
		}
		errs = append(errs, a.inherit(ctx, folder))
	}
	return errors.Join(errs...)
}

// inherit removes what another process counted only when the events of it are safe. The next process makes the same events
// otherwise.
func (a *Agent) inherit(ctx context.Context, folder string) error {
	events, last, err := a.collector.Inherit(ctx, folder)
	if err != nil {
		return err
	}
	if err := a.sealed.await(ctx, last); err != nil {
		return err
	}
	spooled, ok, reason := a.deliverer.SpoolStatus()
	switch {
	case spooled && !ok:
		return errors.New(reason)
	case !spooled && ctx.Err() != nil: // a stop may not leave the time to deliver what is in memory
		return fmt.Errorf("deliver what was taken over: %w", ctx.Err())
	}
	if err := a.kernel.DropFormer(folder); err != nil {
		return err
	}
	a.log.Info("took over what was counted in a folder of maps", zap.String("folder", folder), zap.Uint64("events", events))
	return nil
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
	return errors.Join(err, delivery.wait(), a.report())
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

// GiveUp logs what is lost when the process ends at once. It may be called beside Run.
func (a *Agent) GiveUp() {
	if !a.working.Load() {
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
