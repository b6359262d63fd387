package deliver

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder makes request bodies out of batches, several at a time. It keeps its compressors, whose tables are large, and
// no bodies: the transport may read one after its answer came.
type encoder struct {
	gzip chan *gzipper // those not in use; nil unless chosen
	zstd *zstd.Encoder // nil unless chosen
}

// gzipper compresses one body at a time.
type gzipper struct {
	*gzip.Writer
	array []byte // that is compressed
}

func newEncoder(c Compression, concurrency int) (e *encoder, err error) {
	e = new(encoder)
	switch c {
	case CompressionGzip:
		e.gzip = make(chan *gzipper, concurrency)
		for range concurrency {
			w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
			if err != nil {
				return nil, fmt.Errorf("make a gzip compressor: %w", err)
			}
			e.gzip <- &gzipper{Writer: w}
		}
	case CompressionZstd:
		e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(concurrency))
		if err != nil {
			return nil, fmt.Errorf("make a zstd compressor: %w", err)
		}
	}
	return e, nil
}

// encode returns b laid out as format, compressed. The same batch gives the same bytes.
func (e *encoder) encode(b *Batch, format Format) ([]byte, error) {
	if e.gzip != nil {
		w := <-e.gzip
		defer func() { e.gzip <- w }()
		return w.encode(b, format)
	}
	body := layOut(nil, b, format)
	if e.zstd != nil {
		return e.zstd.EncodeAll(body, packed(body)), nil
	}
	return body, nil
}

func (w *gzipper) encode(b *Batch, format Format) ([]byte, error) {
	body := layOut(w.array[:0], b, format)
	if format.isArray() {
		w.array = body
	}
	to := bytes.NewBuffer(packed(body))
	w.Reset(to)
	if _, err := w.Write(body); err != nil {
		return nil, fmt.Errorf("gzip a batch: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("gzip a batch: %w", err)
	}
	return to.Bytes(), nil
}

// packed returns room for what a body packs to, about.
func packed(body []byte) []byte { return make([]byte, 0, len(body)/6) }

// layOut returns b as format, which may be b's own memory; an array is appended to dst.
func layOut(dst []byte, b *Batch, format Format) []byte {
	switch {
	case format.isArray():
		return appendArray(dst, b.Lines)
	case format == FormatSingle:
		return bytes.TrimSuffix(b.Lines, []byte{'\n'})
	default:
		return b.Lines
	}
}

// appendArray appends lines as one JSON array. A newline within a JSON string is escaped, so every newline ends an object.
func appendArray(dst, lines []byte) []byte {
	dst = slices.Grow(dst, len(lines)+1)
	for begin := byte('['); len(lines) > 0; begin = ',' {
		var object []byte
		object, lines, _ = bytes.Cut(lines, []byte{'\n'})
		dst = append(append(dst, begin), object...)
	}
	return append(dst, ']')
}
