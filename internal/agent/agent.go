// Package agent puts weir together: it builds the parts, runs them, and stops them in the order in which data passes
// them, so that nothing is lost between two.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	"weir/internal/telemetry"
)

// requestTimeout bounds one POST to the Brain, which commits a database transaction for it.
const requestTimeout = 30 * time.Second

// hangs is how long the collector may go without a look before the agent is reported as not alive. A sweep of the
// largest map takes a few seconds.
const hangs = 30 * time.Second

// Build says what is running.
type Build struct {
	Version string
	Commit  string
}

// Agent is the whole of weir, loaded and attached, not yet running.
type Agent struct {
	log         *zap.Logger
	stopTimeout time.Duration
	interfaces  int

	kernel      *datapath.Datapath
	host        *enrich.Host
	attachments *attachments
	collector   *collect.Collector
	deliverer   *deliver.Deliverer
	server      *telemetry.Server
}

// Start loads and attaches everything that the settings ask for. When it fails, nothing stays attached. Otherwise Run
// must follow.
func Start(s config.Settings, build Build, stdout io.Writer, log *zap.Logger) (_ *Agent, err error) {
	interfaces, err := findInterfaces(s.Interface)
	if err != nil {
		return nil, err
	}
	a := &Agent{log: log, stopTimeout: s.StopTimeout, interfaces: len(interfaces), host: enrich.New(log)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	if err := a.host.Refresh(); err != nil {
		return nil, err
	}
	if a.kernel, err = datapath.Load(datapath.Config{MaxFlows: s.MaxFlows}); err != nil {
		return nil, err
	}
	if err := a.build(s, build, stdout); err != nil {
		return nil, err
	}
	return a, a.attachments.attachAll(interfaces, s.IngressHook)
}

// build makes the parts that are not the kernel's.
func (a *Agent) build(s config.Settings, build Build, stdout io.Writer) error {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if a.attachments, err = newAttachments(a.kernel, a.host, a.log, reg); err != nil {
		return err
	}
	if a.deliverer, err = deliver.New(deliverConfig(s, build, stdout), a.log, reg); err != nil {
		return err
	}
	cfg, err := collectConfig(s)
	if err != nil {
		return err
	}
	if a.collector, err = collect.New(cfg, a.kernel, a.host, collect.SystemClock, a.deliverer.Add, reg); err != nil {
		return err
	}
	for _, c := range []prometheus.Collector{
		telemetry.NewKernelCollector(a.kernel, a.collector.Audit),
		telemetry.NewBuildCollector(build.Version, build.Commit, datapath.ObjectHash()),
	} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register the kernel's metrics: %w", err)
		}
	}
	a.server, err = telemetry.Listen(telemetry.Config{
		Listen: s.Listen, Live: a.live, Ready: a.ready, Gatherer: reg,
	}, a.log)
	return err
}

func deliverConfig(s config.Settings, build Build, stdout io.Writer) deliver.Config {
	return deliver.Config{
		URL:            s.EndpointURL.URL,
		Path:           s.EndpointURL.Path,
		BatchSize:      s.BatchSize,
		SendInterval:   s.SendInterval,
		Format:         deliver.Format(s.BatchFormat),
		Compression:    deliver.Compression(s.Compression),
		QueueMaxBytes:  int64(s.QueueMaxBytes),
		RequestTimeout: requestTimeout,
		UserAgent:      "weir/" + build.Version,
		Stdout:         stdout,
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
		Hostname:    hostname,
	}, nil
}

// Run works until ctx ends, then stops: it detaches, has the kernel hand over all that is left, and delivers it within
// the stop timeout. It returns nil after such a stop, and an error when a part failed.
func (a *Agent) Run(ctx context.Context) error {
	a.log.Info("counting", zap.Int("interfaces", a.interfaces), zap.String("metrics", a.server.Addr().String()))

	// What serves the others outlives them: it ends when delivery has.
	serving, stopServing := context.WithCancel(context.Background())
	delivering, abandon := context.WithCancel(context.Background())
	defer abandon()
	group, working := errgroup.WithContext(ctx)
	var services errgroup.Group

	services.Go(func() error { return a.server.Run(serving) })
	services.Go(func() error { return a.host.Run(serving) })
	delivered := make(chan error, 1)
	go func() { delivered <- a.deliverer.Run(delivering) }()

	group.Go(func() error { return a.collector.Run(working) })
	group.Go(func() error { return a.attachments.Run(working) })
	group.Go(func() error {
		select {
		case <-working.Done():
			return nil
		case err := <-delivered:
			delivered <- err
			return errors.Join(errors.New("delivery ended"), err)
		}
	})

	err := group.Wait()
	err = errors.Join(err, a.stop(delivered, abandon))
	stopServing()
	return errors.Join(err, services.Wait(), a.kernel.Close())
}

// stop follows the way of a packet: no more of them, then what the map holds, then what the queue holds.
func (a *Agent) stop(delivered <-chan error, abandon func()) error {
	a.log.Info("stopping", zap.Duration("timeout", a.stopTimeout))
	deadline := time.AfterFunc(a.stopTimeout, abandon)
	defer deadline.Stop()
	err := errors.Join(a.attachments.detachAll(), a.collector.Drain())
	a.deliverer.Close()
	return errors.Join(err, <-delivered)
}

// close undoes a Start that failed.
func (a *Agent) close() error {
	var errs []error
	if a.server != nil {
		errs = append(errs, a.server.Close())
	}
	if a.kernel != nil {
		errs = append(errs, a.kernel.Close())
	}
	return errors.Join(errs...)
}

// live says whether the loops make progress. The Brain's health is none of it.
func (a *Agent) live() (bool, string) {
	if since := time.Since(a.collector.LastLook()); since > hangs {
		return false, fmt.Sprintf("the collector has not looked for work for %s", since.Round(time.Second))
	}
	return true, ""
}

// ready reports on attaching and on delivery.
func (a *Agent) ready() []telemetry.Check {
	ok, reason := a.deliverer.Status()
	return append(a.attachments.checks(), telemetry.Check{Name: "deliver", OK: ok, Detail: reason})
}
