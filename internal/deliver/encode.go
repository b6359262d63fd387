package deliver

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder makes request bodies out of batches, several at a time. It keeps its compressors, whose tables are large, and
// no bodies: the transport may read one after its answer came.
type encoder struct {
	gzip chan *gzip.Writer // those not in use; nil unless chosen
	zstd *zstd.Encoder     // nil unless chosen
}

func newEncoder(c Compression, concurrency int) (e *encoder, err error) {
	e = new(encoder)
	switch c {
	case CompressionGzip:
		e.gzip = make(chan *gzip.Writer, concurrency)
		for range concurrency {
			w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
			if err != nil {
				return nil, fmt.Errorf("make a gzip compressor: %w", err)
			}
			e.gzip <- w
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
	body := b.Lines
	switch format {
	case FormatAuto, FormatArray:
		body = array(b.Lines)
	case FormatSingle:
		body = bytes.TrimSuffix(b.Lines, []byte{'\n'})
	}
	switch {
	case e.gzip != nil:
		return e.gzipped(body)
	case e.zstd != nil:
		return e.zstd.EncodeAll(body, make([]byte, 0, len(body)/8)), nil // about what it packs to
	}
	return body, nil
}

func (e *encoder) gzipped(body []byte) ([]byte, error) {
	w := <-e.gzip
	defer func() { e.gzip <- w }()
	var packed bytes.Buffer
	w.Reset(&packed)
	if _, err := w.Write(body); err != nil {
		return nil, fmt.Errorf("gzip a batch: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("gzip a batch: %w", err)
	}
	return packed.Bytes(), nil
}

// array returns lines as one JSON array. A newline within a JSON string is escaped, so every newline ends an object.
func array(lines []byte) []byte {
	a := append([]byte{'['}, lines...)
	for rest := a; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		rest[i] = ','
		rest = rest[i+1:]
	}
	a[len(a)-1] = ']'
	return a
}
