package deliver

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder makes request bodies out of batches. It reuses its buffers: what encode returned is overwritten by the next
// call.
type encoder struct {
	gzip   *gzip.Writer  // nil unless chosen
	zstd   *zstd.Encoder // nil unless chosen
	framed []byte
	packed appender
}

// appender is an io.Writer onto a slice.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

func newEncoder(c Compression) (*encoder, error) {
	e := new(encoder)
	var err error
	switch c {
	case CompressionGzip:
		e.gzip, err = gzip.NewWriterLevel(nil, gzip.BestSpeed)
	case CompressionZstd:
		// One encoder at a time starts no goroutines.
		e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	if err != nil {
		return nil, fmt.Errorf("make a %s compressor: %w", c, err)
	}
	return e, nil
}

// encode returns b laid out as format, compressed. The same batch gives the same bytes.
func (e *encoder) encode(b *Batch, format Format) ([]byte, error) {
	body := b.Lines
	switch format {
	case FormatAuto, FormatArray:
		e.framed = appendArray(e.framed[:0], b.Lines)
		body = e.framed
	case FormatSingle:
		body = bytes.TrimSuffix(b.Lines, []byte{'\n'})
	}
	switch {
	case e.gzip != nil:
		return e.gzipped(body)
	case e.zstd != nil:
		e.packed = e.zstd.EncodeAll(body, e.packed[:0])
		return e.packed, nil
	}
	return body, nil
}

func (e *encoder) gzipped(body []byte) ([]byte, error) {
	e.packed = e.packed[:0]
	e.gzip.Reset(&e.packed)
	if _, err := e.gzip.Write(body); err != nil {
		return nil, fmt.Errorf("gzip a batch: %w", err)
	}
	if err := e.gzip.Close(); err != nil {
		return nil, fmt.Errorf("gzip a batch: %w", err)
	}
	return e.packed, nil
}

// appendArray appends lines as one JSON array. A newline within a JSON string is escaped, so every newline ends an
// object.
func appendArray(dst, lines []byte) []byte {
	dst = append(dst, '[')
	rest := len(dst)
	dst = append(dst, lines...)
	for {
		i := bytes.IndexByte(dst[rest:], '\n')
		if i < 0 {
			break
		}
		rest += i
		dst[rest] = ','
	}
	dst[len(dst)-1] = ']'
	return dst
}
