package deliver

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"weir/internal/spool"
)

// BenchmarkAdd is the cost of an event to the collector, with a sink that costs nothing.
func BenchmarkAdd(b *testing.B) { benchmarkAdd(b, nil) }

// BenchmarkAddSpooled is the same with every event on disk before it is sent.
func BenchmarkAddSpooled(b *testing.B) { benchmarkAdd(b, testSpool(b)) }

func benchmarkAdd(b *testing.B, spool *spool.Config) {
	cfg := testConfig()
	cfg.BatchSize, cfg.QueueMaxBytes, cfg.Spool = 500, 64<<20, spool
	d, _ := newTest(b, cfg)
	r := run(d)
	e := testEvent(1)
	b.SetBytes(eventBytes)
	b.ReportAllocs()
	for b.Loop() {
		d.Add(e)
	}
	b.StopTimer()
	d.Close()
	<-r.done
}

func testSpool(b *testing.B) *spool.Config {
	return &spool.Config{Dir: b.TempDir(), MaxBytes: 1 << 30, Sync: spool.Policy(time.Second)}
}

func BenchmarkSendArrayPlain(b *testing.B)       { benchmarkSend(b, CompressionNone, nil) }
func BenchmarkSendArrayGzip(b *testing.B)        { benchmarkSend(b, CompressionGzip, nil) }
func BenchmarkSendArrayZstd(b *testing.B)        { benchmarkSend(b, CompressionZstd, nil) }
func BenchmarkSendArrayGzipSpooled(b *testing.B) { benchmarkSend(b, CompressionGzip, testSpool(b)) }

// benchmarkSend measures an event from Add to its acknowledgement by a server on loopback that discards it. An
// operation is one event.
func benchmarkSend(b *testing.B, compression Compression, spool *spool.Config) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	cfg := testConfig()
	cfg.URL, cfg.Format, cfg.Compression = parseURL(server.URL), FormatArray, compression
	cfg.BatchSize, cfg.QueueMaxBytes, cfg.Spool = 500, 1<<40, spool // nothing is dropped
	d, _ := newTest(b, cfg)
	r := run(d)
	e := testEvent(1)
	b.SetBytes(eventBytes)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.ID.Sequence = uint64(i)
		e.Counts.Bytes = uint64(i) * 1500
		d.Add(e)
		if i%50_000 == 0 { // the sender keeps up
			for _, held := d.queue.held(); held > 100_000; _, held = d.queue.held() {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	d.Close()
	<-r.done
	b.StopTimer()
	if got := readBooks(d); got.delivered+got.held != b.N || got.held > b.N/2 {
		b.Fatalf("%d of %d events delivered", got.delivered, b.N)
	}
}
