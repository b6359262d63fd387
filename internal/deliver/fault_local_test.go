package deliver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/testbrain"
	"weir/internal/testdisk"
)

// The faults of the disk and of the agent itself; see fault_test.go.

func TestF13DiskFails(t *testing.T) {
	for _, fault := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT} {
		t.Run(fault.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, testbrain.Options{}, func(cfg *Config) { cfg.Spool.Sync = spool.Policy(time.Second) })
				r.addFor(5)
				r.disk.Fail(fault, testdisk.Create, testdisk.Write, testdisk.Cut, testdisk.Sync, testdisk.SyncDir, testdisk.Rename)
				r.addFor(5)
				r.wantAll(t, 0)
				if _, ok, reason := r.SpoolStatus(); ok || !strings.Contains(reason, fault.Error()) {
					t.Errorf("SpoolStatus: %v, %s", ok, reason)
				}
				r.brain.Stop(t)
				r.addFor(5)
				if got := readBooks(r.Deliverer); got.held != 50 {
					t.Errorf("books: %+v, want 50 held in memory", got)
				}
				r.disk.Heal()
				r.addFor(5)
				if _, ok, reason := r.SpoolStatus(); !ok {
					t.Errorf("SpoolStatus: %s", reason)
				}
				r.brain.Start(t)
				time.Sleep(time.Minute)
				r.wantAll(t, 0)
				r.finish(t)
				wantBooks(t, r.Deliverer, books{delivered: 200, batchDelivered: 20, retryConnection: readBooks(r.Deliverer).retryConnection})
			})
		})
	}
}

// A disk that does not keep what it takes is no reason to hold events in memory only, but it is told.
func TestF13SyncFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testbrain.Options{}, func(cfg *Config) { cfg.Spool.Sync = spool.Policy(time.Second) })
		r.disk.Fail(syscall.EIO, testdisk.Sync)
		r.addFor(5)
		if _, ok, reason := r.SpoolStatus(); ok || !strings.Contains(reason, "may not outlive") {
			t.Errorf("SpoolStatus: %v, %s", ok, reason)
		}
		r.disk.Heal()
		r.addFor(5)
		if _, ok, reason := r.SpoolStatus(); !ok {
			t.Errorf("SpoolStatus: %s", reason)
		}
		r.wantAll(t, 0)
		r.finish(t)
	})
}

func TestF15SpoolAtItsQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testbrain.Options{}, func(cfg *Config) {
			cfg.Spool.MaxBytes, cfg.QueueMaxBytes = 128<<10, 32<<10
		})
		r.brain.Stop(t)
		r.addFor(100)
		got := readBooks(r.Deliverer)
		if got.spoolFull < 500 || got.held < 100 || got.events() != 1000 || got.queueFull > 0 {
			t.Errorf("books: %+v", got)
		}
		r.brain.Start(t)
		time.Sleep(time.Minute)
		r.finish(t)
		got = readBooks(r.Deliverer)
		if got.delivered+got.spoolFull != 1000 || got.delivered != r.brain.Received() || got.held != 0 {
			t.Errorf("books: %+v, the Brain has %d", got, r.brain.Received())
		}
		newest := fmt.Sprintf("-%016x", 999)
		if !slices.ContainsFunc(r.brain.Events(), func(e testbrain.Event) bool { return strings.HasSuffix(e.EventID, newest) }) {
			t.Error("the newest event was dropped")
		}
	})
}

func TestF16StopWithTheBrainDown(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silent ", silent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				r := newRig(t, testbrain.Options{Answer: func(*testbrain.Request) *testbrain.Answer {
					if down.Load() {
						return &testbrain.Answer{Delay: time.Hour}
					}
					return nil
				}}, nil)
				down.Store(silent)
				if !silent {
					r.brain.Stop(t)
				}
				r.addFor(60)
				r.add(5) // not sealed yet
				if took := r.finish(t); took > lastCall {
					t.Errorf("the stop took %s", took)
				}
				if got := readBooks(r.Deliverer); got.held != 605 || got.shutdown > 0 {
					t.Errorf("books: %+v, want all held", got)
				}
				down.Store(false)
				if !silent {
					r.brain.Start(t)
				}
				r.start(t)
				time.Sleep(time.Minute)
				r.wantAll(t, 0)
				r.finish(t)
				wantBooks(t, r.Deliverer, books{recovered: 605, delivered: 605, batchDelivered: 61})
			})
		})
	}
}

// The wall clock is used only for what an earlier life left, and no difference of times is taken for negative.
func TestF17ClockJumps(t *testing.T) {
	tests := []struct {
		jump time.Duration
		want books
	}{
		{time.Hour, books{recovered: 10, delivered: 10, batchDelivered: 1}},
		{-time.Hour, books{recovered: 10, delivered: 10, batchDelivered: 1}},
		{-3 * time.Hour, books{recovered: 10, expired: 10, batchDropped: 1}},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, testbrain.Options{}, func(cfg *Config) { cfg.MaxAge = 2 * time.Hour })
			r.finish(t)
			left, err := spool.Open(spool.Config{Dir: r.cfg.Spool.Dir, MaxBytes: 1 << 30, FS: r.disk, Log: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := left.Append(appendRecord(nil, testBatch(10), time.Now().Add(test.jump)), 10); err != nil {
				t.Fatal(err)
			}
			if err := left.Close(); err != nil {
				t.Fatal(err)
			}
			r.start(t)
			time.Sleep(time.Minute)
			r.finish(t)
			wantBooks(t, r.Deliverer, test.want)
		})
	}
}

func TestF18BadConfigurationLeavesTheSpoolAlone(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("two words"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"batch size":  {func(c *Config) { c.BatchSize = 0 }, "batch size"},
		"no token":    {func(c *Config) { c.Credentials.TokenPath = junk + "?" }, "read AGENT_TOKEN_FILE: stat " + junk + "?: no such file"},
		"no CA":       {func(c *Config) { c.Credentials.CAPath = junk + "?" }, "read AGENT_TLS_CA_FILE: stat "},
		"no cert":     {func(c *Config) { c.Credentials.CertPath, c.Credentials.KeyPath = junk+"?", junk }, "read AGENT_TLS_CERT_FILE: stat "},
		"no key":      {func(c *Config) { c.Credentials.CertPath, c.Credentials.KeyPath = junk, junk+"?" }, "read AGENT_TLS_KEY_FILE: stat "},
		"bad token":   {func(c *Config) { c.Credentials.TokenPath = junk }, "read AGENT_TOKEN_FILE: " + junk + ": want one token"},
		"bad CA":      {func(c *Config) { c.Credentials.CAPath = junk }, "read AGENT_TLS_CA_FILE: " + junk + ": there is no certificate"},
		"cert alone":  {func(c *Config) { c.Credentials.CertPath = junk }, "and that of its key"},
		"bad pair":    {func(c *Config) { c.Credentials.CertPath, c.Credentials.KeyPath = junk, junk }, "read AGENT_TLS_CERT_FILE: " + junk},
		"unwritable":  {func(c *Config) { c.URL, c.Path = nil, "/nonesuch/events" }, "write to AGENT_ENDPOINT_URL: open /nonesuch/events"},
		"spool quota": {func(c *Config) { c.Spool.MaxBytes = 1 }, "spool of 1 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.URL = parseURL("https://brain/ingest")
			cfg.Spool = &spool.Config{Dir: filepath.Join(t.TempDir(), "spool"), MaxBytes: 1 << 30}
			test.change(&cfg)
			d, err := New(cfg, zap.NewNop(), prometheus.NewRegistry())
			if err == nil {
				err = d.Open()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "two words") {
				t.Errorf("%v, want %s", err, test.want)
			}
			if _, err := os.Stat(cfg.Spool.Dir); !os.IsNotExist(err) {
				t.Errorf("the spool was made: %v", err)
			}
		})
	}
}
