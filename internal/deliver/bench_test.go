package deliver

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// BenchmarkAdd is the cost of an event to the collector, with a sink that costs nothing.
func BenchmarkAdd(b *testing.B) {
	cfg := testConfig()
	cfg.BatchSize, cfg.QueueMaxBytes = 500, 64<<20
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

func BenchmarkSendArrayPlain(b *testing.B) { benchmarkSend(b, CompressionNone) }
func BenchmarkSendArrayGzip(b *testing.B)  { benchmarkSend(b, CompressionGzip) }
func BenchmarkSendArrayZstd(b *testing.B)  { benchmarkSend(b, CompressionZstd) }

// benchmarkSend measures an event from Add to its acknowledgement by a server on loopback that discards it. An
// operation is one event.
func benchmarkSend(b *testing.B, compression Compression) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	cfg := testConfig()
	cfg.URL, cfg.Format, cfg.Compression = parseURL(server.URL), FormatArray, compression
	cfg.BatchSize, cfg.QueueMaxBytes = 500, 1<<40 // nothing is dropped
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
	if got := readBooks(d); got.delivered != b.N {
		b.Fatalf("%d of %d events delivered", got.delivered, b.N)
	}
}
