package deliver

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"weir/internal/flow"
	"weir/internal/spool"
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
	QueueMaxBytes int64         // bound on what is held in memory, uncompressed, batches being sent included
	MaxAge        time.Duration // a batch that waits for longer is dropped; 0: none is
	Concurrency   int           // batches that are sent to a Brain at a time
	BacklogShare  int           // of 100 batches, those of the backlog while there are live ones too

	// Spool says where on disk batches are kept until they have their fate; nil: nowhere. Its Log is set by New.
	Spool *spool.Config
	// QuarantinePath is the file that refused events are appended to; empty: none.
	QuarantinePath string
	// Sealed is told the last event of each batch once it is on disk or, without a disk that works, in memory: from then
	// on it and all before it are the delivery's to lose. It must not call Add.
	Sealed func(flow.EventID)

	RequestTimeout time.Duration // from dialling to the head of the answer, redirects included
	UserAgent      string
	Credentials    Credentials
}

// Credentials are files that say who the agent is and whom it trusts. Each may be empty. They are read again when they
// change; while a new one is not valid, the old one is used.
type Credentials struct {
	TokenPath string // sent as a bearer token (RFC 6750)
	CAPath    string // PEM: what the Brain's certificate must be signed by; empty: what the system trusts
	CertPath  string // PEM: the client certificate and its chain, with KeyPath
	KeyPath   string // PEM
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

// isArray says whether a batch is an array while nothing speaks against it.
func (f Format) isArray() bool { return f == FormatAuto || f == FormatArray }

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
	if c.Concurrency < 1 {
		return fmt.Errorf("%d batches at a time: want at least 1", c.Concurrency)
	}
	if c.BacklogShare < 1 || c.BacklogShare > 99 {
		return fmt.Errorf("backlog share of %d %%: want 1 to 99", c.BacklogShare)
	}
	if (c.Credentials.CertPath == "") != (c.Credentials.KeyPath == "") {
		return errors.New("client certificate: want its file and that of its key, or neither")
	}
	if c.RequestTimeout <= 0 {
		return fmt.Errorf("request timeout %s: want more than 0", c.RequestTimeout)
	}
	return nil
}

// concurrency is how many batches may be on the wire. What is not a Brain takes one after the other.
func (c *Config) concurrency() int {
	if c.URL == nil {
		return 1
	}
	return c.Concurrency
}

// sink makes the sink that events go to, and the name it has in messages.
func (c *Config) sink(m *metrics, log *zap.Logger) (sink, string, error) {
	switch {
	case c.URL != nil:
		s, err := newHTTPSink(c, c.URL, m.duration, log)
		return s, "the Brain", err
	case c.Path != "":
		return &writerSink{path: c.Path, sync: c.syncer()}, "the output file", nil
	case c.Stdout != nil:
		return &writerSink{w: c.Stdout}, "standard output", nil
	default:
		return nil, "", errors.New("there is nowhere to deliver to")
	}
}

// syncer returns what forces to the disk what was written to a file, before its record in the spool is let go; nil if
// records are not forced there either.
func (c *Config) syncer() func(*os.File) error {
	if c.Spool == nil || c.Spool.Sync == spool.Never {
		return nil
	}
	return func(file *os.File) error {
		if err := file.Sync(); !errors.Is(err, syscall.EINVAL) { // a pipe or a device
			return err
		}
		return nil
	}
}

// where names the place that events go to, without what may be a secret: the path and the query of a URL may be. That there is a
// path is shown.
func (c *Config) where() string {
	switch {
	case c.URL != nil:
		shown := url.URL{Scheme: c.URL.Scheme, Host: c.URL.Host}
		if strings.Trim(c.URL.Path, "/") != "" {
			shown.Path = "/..."
		}
		return shown.String()
	case c.Path != "":
		return c.Path
	default:
		return "stdout"
	}
}
