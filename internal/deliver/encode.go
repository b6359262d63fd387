package deliver

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder makes request bodies out of batches. It keeps its compressor, whose tables are large, and no bodies: the
// transport may read one after its answer came.
type encoder struct {
	gzip *gzip.Writer  // nil unless chosen
	zstd *zstd.Encoder // nil unless chosen
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
	var packed bytes.Buffer
	e.gzip.Reset(&packed)
	if _, err := e.gzip.Write(body); err != nil {
		return nil, fmt.Errorf("gzip a batch: %w", err)
	}
	if err := e.gzip.Close(); err != nil {
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
