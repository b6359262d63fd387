package known

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

// TestRun reads what has changed, and leaves behind what was seen.
func TestRun(t *testing.T) {
	cfg := Config{BadPath: file(t, "ja4 "+goHello+" old\n"), MemoryPath: filepath.Join(t.TempDir(), "memory")}
	reg := prometheus.NewRegistry()
	k, err := New(cfg, zap.NewNop(), reg)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Load(start); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- k.Run(ctx) }()
		write(t, cfg.BadPath, "ja4 "+goHello+" newer\n")
		time.Sleep(2 * recheckEvery) // the clock is synctest's
		if got := k.Bad.Lookup("ja4", goHello, ""); got != "newer" {
			t.Errorf("the list says %q", got)
		}
		if !k.See("ja4", goHello, start) {
			t.Error("not new, at first")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	const want = `
# HELP weir_known_fingerprints Fingerprints in the database of programs, on the list of bad ones, and in the memory of this network's.
# TYPE weir_known_fingerprints gauge
weir_known_fingerprints{file="bad"} 1
weir_known_fingerprints{file="database"} 0
weir_known_fingerprints{file="memory"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "weir_known_fingerprints"); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(cfg.MemoryPath); err != nil || len(content) == 0 {
		t.Errorf("the memory left %d bytes (%v)", len(content), err)
	}
}

// TestLoadErrors says what is wrong with each file.
func TestLoadErrors(t *testing.T) {
	bad := file(t, "ja4\n")
	k, err := New(Config{DatabasePath: "/nonexistent/database", BadPath: bad}, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	err = k.Load(start)
	for _, want := range []string{
		"read AGENT_FINGERPRINT_DB: stat /nonexistent/database: ",
		"read AGENT_BAD_FINGERPRINTS: " + bad + ": line 1: ",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
}
