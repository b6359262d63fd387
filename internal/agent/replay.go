package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"weir/internal/capture"
	"weir/internal/config"
	"weir/internal/known"
	"weir/internal/replay"
)

// Streams are what a replay reads and writes, but for its file.
type Streams struct {
	In       io.Reader // the file that is called "-"
	Out      io.Writer // gets the events, one JSON object per line
	Err      io.Writer // gets the ledger
	Progress io.Writer // a terminal, or nil
}

// Replay counts the packets of a capture file, pcap or pcapng, and writes its events and its ledger. Of a file that cannot be
// read to its end, or of one when ctx ended, these are of what was read; the error says what was not, and why.
func Replay(ctx context.Context, s config.Settings, file string, streams Streams) error {
	if err := replayFile(ctx, s, file, streams); err != nil {
		return fmt.Errorf("replay %q: %w", file, err)
	}
	return nil
}

func replayFile(ctx context.Context, s config.Settings, file string, streams Streams) (err error) {
	cfg := replay.Config{Name: "stdin", Events: streams.Out, Progress: streams.Progress}
	in := streams.In
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return err
		}
		defer opened.Close()
		in, cfg.Name, cfg.Size = opened, filepath.Base(file), size(opened)
	}
	if cfg.Collect, err = collectConfig(s); err != nil {
		return err
	}
	if cfg.Capture, err = capture.NewReader(in); err != nil {
		return err
	}
	if cfg.Size > 0 {
		s.MaxFlows = min(s.MaxFlows, enoughFlows(cfg.Size))
	}
	s.FingerprintLearn = replayLearn(s)
	k, err := known.New(knownConfig(s), plainLog(streams.Err), prometheus.NewRegistry())
	if err != nil {
		return err
	}
	if err := k.Load(time.Now()); err != nil {
		return err
	}
	cfg.Identify = identifyConfig(s, k)
	kernelConfig := datapathConfig(s)
	kernelConfig.Replay = true
	kernel, err := loadKernel(ctx, kernelConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kernel.Close()) }()
	run, err := replay.New(cfg, kernel)
	if err != nil {
		return err
	}
	books, err := run.Run(ctx)
	return errors.Join(err, books.Write(streams.Err))
}

// enoughFlows returns how large a map is never full with the flows of a capture of so many bytes. A small one is walked, made
// and removed in less time.
func enoughFlows(size int64) uint32 {
	const (
		leastPacket = 40   // bytes, in a file: the header of a record, and those of IPv4 and of ports
		least       = 1024 // flows
	)
	return uint32(min(max(size/leastPacket, least), math.MaxUint32))
}

// plainLog has a line for what goes wrong and does not end a replay.
func plainLog(out io.Writer) *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "message", LineEnding: zapcore.DefaultLineEnding})
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(out), zap.ErrorLevel))
}

// size returns a file's size, or 0 for one that has none, such as a pipe.
func size(file *os.File) int64 {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}
