// Package replay has the kernel side count the packets of a capture, at the time by the capture's clock at which they came,
// and writes the FlowEvents.
package replay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/capture"
	"weir/internal/collect"
	"weir/internal/datapath"
	"weir/internal/flow"
	"weir/internal/identify"
)

// stepBack is how much earlier than the latest a packet may be. One that is earlier still is of another clock or, if the next
// ones are as well, begins another capture, as in a file that was put together of several.
const stepBack = time.Minute

// Config says where the capture is and where its events go.
type Config struct {
	Capture  *capture.Reader
	Name     string    // of the capture: the interface of packets whose interface has no name
	Size     int64     // of the capture in bytes, if it is known; else 0
	Events   io.Writer // gets a line for each event
	Progress io.Writer // a terminal, or nil
	Collect  collect.Config
	Identify identify.Config
}

// Replay is one run over one capture.
type Replay struct {
	cfg       Config
	kernel    *datapath.Datapath
	collector *collect.Collector
	packets   ahead
	counted   uint64 // packets

	nowNs      uint64 // the capture's clock; 0 before the first packet
	nextLookNs uint64
	events     *bufio.Writer
	written    uint64 // events
	line       []byte
	failed     error // the first of the writes of events that did
}

// New returns a Replay by a kernel side that was loaded for one, and has counted nothing yet.
func New(cfg Config, kernel *datapath.Datapath) (*Replay, error) {
	r := &Replay{cfg: cfg, kernel: kernel, packets: ahead{reader: cfg.Capture}, events: bufio.NewWriterSize(cfg.Events, 1<<16)}
	reg := prometheus.NewRegistry()
	identifier, err := identify.New(cfg.Identify, r.clock, reg)
	if err != nil {
		return nil, err
	}
	r.collector, err = collect.New(cfg.Collect, kernel, r, identifier, r.clock, r, zap.NewNop(), reg)
	return r, err
}

// Run reads the capture to its end, or as far as it can be read, or until ctx ends, and writes the events of all that was read.
// Its error says why that is not all.
func (r *Replay) Run(ctx context.Context) (Books, error) {
	err := r.read(ctx)
	ctx = context.WithoutCancel(ctx)
	err = errors.Join(err, r.drain(ctx))
	if r.failed == nil {
		r.failed = r.events.Flush()
	}
	if r.failed != nil {
		err = errors.Join(err, fmt.Errorf("write the events: %w", r.failed))
	}
	books, errBooks := r.books()
	return books, errors.Join(err, errBooks)
}

// read passes every packet to the kernel side.
func (r *Replay) read(ctx context.Context) error {
	reader := r.cfg.Capture
	progress := progress{out: r.cfg.Progress, size: r.cfg.Size, next: time.Now().Add(progressAfter)}
	defer progress.erase()
	for ctx.Err() == nil && r.failed == nil {
		packet, err := r.packets.next()
		if err == io.EOF {
			return reader.Unread()
		}
		if err != nil {
			return errors.Join(err, reader.Unread())
		}
		if err := r.count(ctx, &packet); err != nil {
			return err
		}
		if r.counted%progressEvery == 0 {
			progress.show(reader.Offset(), r.counted)
		}
	}
	if r.failed != nil {
		return nil // Run tells
	}
	return fmt.Errorf("interrupted behind packet %d", r.counted)
}

// count lets the capture's time pass until the packet's, and has it counted unless ctx ended meanwhile.
func (r *Replay) count(ctx context.Context, packet *capture.Packet) error {
	at := packet.AtNs + 1 // the kernel side takes 0 for no time
	back := at+uint64(stepBack) < r.nowNs
	if back {
		packet.Frame = slices.Clone(packet.Frame) // looking ahead reads over it
	}
	switch {
	case r.nowNs == 0, back && r.packets.stayBefore(r.nowNs-uint64(stepBack)):
		if err := r.begin(ctx, at); err != nil {
			return err
		}
	case back:
		at = r.nowNs // by its own time, its flow would be idle at once
	}
	if err := r.pass(ctx, at); err != nil || ctx.Err() != nil {
		return err
	}
	r.nextLookNs = min(r.nextLookNs, at+uint64(collect.Look))
	r.counted++
	if err := r.kernel.Replay(&datapath.Frame{
		Data: packet.Frame, Length: packet.Length, AtNs: at, Interface: packet.Interface,
	}); err != nil {
		return err
	}
	return r.collector.ReadSamples() // any number of packets may come before the next look
}

// begin sets the clock, back perhaps: what was counted before is of another time.
func (r *Replay) begin(ctx context.Context, at uint64) error {
	if err := r.drain(ctx); err != nil {
		return err
	}
	r.nowNs, r.nextLookNs = at, at+uint64(collect.Look)
	r.collector.Begin()
	return nil
}

// drain hands over everything, and reads what is to be said of closed connections.
func (r *Replay) drain(ctx context.Context) error {
	return errors.Join(r.collector.Look(ctx), r.collector.Drain(ctx))
}

// pass has everything handed over that is due until a time, at the time when it is, as long as ctx leaves it time.
func (r *Replay) pass(ctx context.Context, until uint64) error {
	for until >= r.nextLookNs {
		if ctx.Err() != nil {
			return nil
		}
		r.nowNs = r.nextLookNs
		if err := r.collector.Look(ctx); err != nil {
			return err
		}
		if err := r.collector.PutOff(); err != nil {
			return err
		}
		r.nextLookNs = max(r.nowNs+uint64(collect.Look), r.collector.DueNs())
	}
	r.nowNs = max(r.nowNs, until)
	return nil
}

// clock is the collector's.
func (r *Replay) clock() (monotonic uint64, wall time.Time) {
	return r.nowNs, time.Unix(0, int64(r.nowNs)-1)
}

// Add writes an event.
func (r *Replay) Add(e *flow.Event) {
	r.line = append(e.AppendJSON(r.line[:0]), '\n')
	if _, err := r.events.Write(r.line); err != nil && r.failed == nil {
		r.failed = err
	}
	r.written++
}

// Seal has nothing to do: every event is safe at once.
func (r *Replay) Seal() {}

// NamespaceName returns nothing, for a capture knows of no network namespaces.
func (r *Replay) NamespaceName(uint8) string { return "" }

// Local says whether an address is of the host that captured, which a capture does not tell but of loopback addresses.
func (r *Replay) Local(_ uint8, addr netip.Addr) bool { return addr.IsLoopback() }

// InterfaceName returns the name of one of the capture's interfaces or, where it has none, the capture's.
func (r *Replay) InterfaceName(_ uint8, number uint32) string {
	if name := r.cfg.Capture.InterfaceName(number); name != "" {
		return name
	}
	return r.cfg.Name
}
