package deliver

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"weir/internal/spool"
	"weir/internal/testbrain"
)

// openFiles returns how many file descriptors this process has.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A delivery over sockets, with a spool on disk, that meets every fault in turn leaves no file and no goroutine behind,
// neither while it runs nor when it has ended.
func TestFaultsLeakNothing(t *testing.T) {
	brain := testbrain.New(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
		switch request.Number % 12 { // every other one is answered well, so no wait grows long
		case 1:
			return &testbrain.Answer{Cut: true}
		case 3:
			return &testbrain.Answer{Cut: true, Store: true}
		case 5:
			return &testbrain.Answer{Status: http.StatusServiceUnavailable}
		case 7:
			if request.Events > 1 { // a single event would be dropped
				return &testbrain.Answer{Status: http.StatusRequestEntityTooLarge}
			}
			return nil
		case 9:
			return &testbrain.Answer{Delay: time.Hour}
		case 11:
			return &testbrain.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/html"}}}
		default:
			return nil
		}
	}})
	cfg := testConfig()
	cfg.URL, cfg.Concurrency, cfg.RequestTimeout = parseURL(brain.URL()), 3, 300*time.Millisecond
	cfg.Spool = &spool.Config{Dir: filepath.Join(t.TempDir(), "spool"), MaxBytes: 1 << 20, Sync: spool.Always}
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for life := range 2 {
		d, _ := newTest(t, cfg)
		r := run(d)
		from := life * 200
		addEvents(d, from, from+200)
		eventually(t, "all events arrive", func() bool { return brain.Received() == from+200 })
		if n := openFiles(t); n > files+20 {
			t.Errorf("life %d: %d files open, %d before", life, n, files)
		}
		if n := runtime.NumGoroutine(); n > goroutines+50 {
			t.Errorf("life %d: %d goroutines, %d before", life, n, goroutines)
		}
		d.Close()
		r.wait(t)
	}
	brain.Stop(t)
	eventually(t, "files and goroutines are what they were", func() bool {
		return openFiles(t) <= files && runtime.NumGoroutine() <= goroutines
	})
}
