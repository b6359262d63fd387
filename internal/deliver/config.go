package deliver

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"
)

// Config says where events go and how. The defaults are the caller's.
type Config struct {
	// URL is the Brain's, http or https. A user and password in it are sent as basic authentication (RFC 7617) and never
	// logged. Without a URL, events are appended to the file Path or, without that either, written to Stdout.
	URL    *url.URL
	Path   string
	Stdout io.Writer

	BatchSize     int           // events; a batch is sent when it holds as many
	SendInterval  time.Duration // a batch that holds fewer is sent this long after its first event
	Format        Format        // of HTTP bodies; the other sinks write one JSON object a line
	Compression   Compression   // of HTTP bodies
	QueueMaxBytes int64         // bound on all that is held, uncompressed, a batch being sent included

	RequestTimeout time.Duration // from dialling to the head of the answer, redirects included
	UserAgent      string
}

// Format says how a batch is laid out in an HTTP body.
type Format string

// The values of Format.
const (
	// FormatAuto is an array, or single if the Brain answers 422 before it ever accepted an array. With a batch size of 1
	// it is single.
	FormatAuto   Format = "auto"
	FormatArray  Format = "array"  // one JSON array per request
	FormatNDJSON Format = "ndjson" // one JSON object per line
	FormatSingle Format = "single" // one JSON object, one event, per request
)

// Compression is an HTTP content coding (RFC 9110 section 8.4.1, RFC 8878).
type Compression string

// The values of Compression.
const (
	CompressionNone Compression = "none"
	CompressionGzip Compression = "gzip"
	CompressionZstd Compression = "zstd"
)

func (c *Config) validate() error {
	switch c.Format {
	case FormatAuto, FormatArray, FormatNDJSON, FormatSingle:
	default:
		return fmt.Errorf("batch format %q: want auto, array, ndjson or single", c.Format)
	}
	switch c.Compression {
	case CompressionNone, CompressionGzip, CompressionZstd:
	default:
		return fmt.Errorf("compression %q: want none, gzip or zstd", c.Compression)
	}
	if c.BatchSize < 1 {
		return fmt.Errorf("batch size %d: want at least 1", c.BatchSize)
	}
	if c.QueueMaxBytes < 1 {
		return fmt.Errorf("queue bound of %d bytes: want at least 1", c.QueueMaxBytes)
	}
	if c.SendInterval <= 0 {
		return fmt.Errorf("send interval %s: want more than 0", c.SendInterval)
	}
	if c.RequestTimeout <= 0 {
		return fmt.Errorf("request timeout %s: want more than 0", c.RequestTimeout)
	}
	return nil
}

// sink makes the sink that events go to, and the name it has in messages.
func (c *Config) sink(m *metrics) (sink, string, error) {
	switch {
	case c.URL != nil:
		s, err := newHTTPSink(c, c.URL, m.duration)
		return s, "the Brain", err
	case c.Path != "":
		return &writerSink{path: c.Path}, "the output file", nil
	case c.Stdout != nil:
		return &writerSink{w: c.Stdout}, "standard output", nil
	default:
		return nil, "", errors.New("there is nowhere to deliver to")
	}
}

// where names the place that events go to, without what may be a secret: the path and the query of a URL may be.
func (c *Config) where() string {
	switch {
	case c.URL != nil:
		return (&url.URL{Scheme: c.URL.Scheme, Host: c.URL.Host}).String()
	case c.Path != "":
		return c.Path
	default:
		return "stdout"
	}
}
