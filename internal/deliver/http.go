package deliver

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxAnswer    = 64 << 10    // bytes of an answer that are read, so that its connection can be used again
	maxDrainTime = time.Second // that reading them may take
	shownAnswer  = 200         // bytes of an answer that are shown
	maxRedirects = 3           // that are followed for a batch
)

// httpSink posts batches to the Brain, one request at a time.
type httpSink struct {
	url       *url.URL // without user and password
	header    http.Header
	transport *http.Transport
	timeout   time.Duration
	encoder   *encoder
	format    Format // auto until an array was accepted or refused
	duration  prometheus.Observer
}

func newHTTPSink(cfg *Config, u *url.URL, duration prometheus.Observer) (*httpSink, error) {
	enc, err := newEncoder(cfg.Compression)
	if err != nil {
		return nil, err
	}
	s := &httpSink{
		header:    header(cfg, u),
		transport: newTransport(),
		timeout:   cfg.RequestTimeout,
		encoder:   enc,
		format:    cfg.Format,
		duration:  duration,
	}
	if cfg.Format == FormatAuto && cfg.BatchSize == 1 {
		s.format = FormatSingle
	}
	bare := *u
	bare.User = nil
	s.url = &bare
	return s, nil
}

// header returns what all requests have in common.
func header(cfg *Config, u *url.URL) http.Header {
	h := http.Header{"User-Agent": {cfg.UserAgent}}
	h.Set("Content-Type", "application/json")
	if cfg.Format == FormatNDJSON {
		h.Set("Content-Type", "application/x-ndjson")
	}
	if cfg.Compression != CompressionNone {
		h.Set("Content-Encoding", string(cfg.Compression))
	}
	if u.User != nil {
		password, _ := u.User.Password()
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	return h
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxAnswer,
		WriteBufferSize:        64 << 10,
		DisableCompression:     true, // answers are not worth unpacking, and may be bombs
	}
}

func (s *httpSink) open() error { return nil }

func (s *httpSink) single() bool { return s.format == FormatSingle }

func (s *httpSink) close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// send posts b, and follows redirects within the Brain's host.
func (s *httpSink) send(ctx context.Context, b *Batch) error {
	body, err := s.encoder.encode(b, s.format)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	to := s.url
	for hops := 0; ; hops++ {
		response, beginning, err := s.post(ctx, to, b.ID, body)
		if err != nil {
			s.transport.CloseIdleConnections() // the Brain may have moved to another address
			return retryable(err)
		}
		next := redirected(to, response)
		if next == nil || hops == maxRedirects {
			return s.judge(response, beginning)
		}
		to = next
	}
}

// post makes one request and returns the answer, closed, and its beginning. It uses the transport and no client, so no
// error repeats the URL.
func (s *httpSink) post(ctx context.Context, to *url.URL, key string, body []byte) (*http.Response, []byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	response, err := s.transport.RoundTrip(s.request(ctx, to, key, body))
	s.duration.Observe(time.Since(start).Seconds())
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	defer time.AfterFunc(maxDrainTime, cancel).Stop()
	return response, readAnswer(response.Body), nil
}

func (s *httpSink) request(ctx context.Context, to *url.URL, key string, body []byte) *http.Request {
	h := s.header.Clone()
	// draft-ietf-httpapi-idempotency-key-header: a structured field string. With it the transport knows that it may
	// repeat a request whose kept-alive connection was closed just then.
	h.Set("Idempotency-Key", `"`+key+`"`)
	reader := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r := &http.Request{Method: http.MethodPost, URL: to, Header: h, GetBody: reader, ContentLength: int64(len(body))}
	r.Body, _ = reader()
	return r.WithContext(ctx)
}

// redirected returns where a request is to be repeated with its method and body (RFC 9110 sections 15.4.8 and 15.4.9),
// and nil if it must not be: what it carries is for one host, and once encrypted stays encrypted. On that host another
// port is another server, but for the one that speaks https.
func redirected(from *url.URL, response *http.Response) *url.URL {
	if response.StatusCode != http.StatusTemporaryRedirect && response.StatusCode != http.StatusPermanentRedirect {
		return nil
	}
	location := response.Header.Get("Location")
	to, err := from.Parse(location)
	if location == "" || err != nil || !strings.EqualFold(to.Hostname(), from.Hostname()) {
		return nil
	}
	upgrade := from.Scheme == "http" && to.Scheme == "https"
	if !upgrade && (to.Scheme != from.Scheme || port(to) != port(from)) {
		return nil
	}
	to.User = nil
	return to
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

func retryable(err error) error {
	cause := causeConnection
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		cause = causeTimeout
	}
	return &retryableError{err: fmt.Errorf("post to the Brain: %w", err), cause: cause}
}

// readAnswer reads a bounded part of an answer and returns its beginning. The answer's status has been read: whether
// the rest comes does not matter.
func readAnswer(body io.Reader) []byte {
	beginning, err := io.ReadAll(io.LimitReader(body, shownAnswer))
	if err == nil {
		_, _ = io.CopyN(io.Discard, body, maxAnswer-shownAnswer)
	}
	return beginning
}

// judge says what an answer means for what was sent.
func (s *httpSink) judge(response *http.Response, beginning []byte) error {
	code := response.StatusCode
	if code/100 == 2 {
		if s.format == FormatAuto {
			s.format = FormatArray
		}
		return nil
	}
	if code == http.StatusUnprocessableEntity && s.format == FormatAuto {
		s.format = FormatSingle
		return errArrayRefused
	}
	err := fmt.Errorf("the Brain answered %d %s: %s", code, http.StatusText(code), strconv.Quote(string(beginning)))
	cause, again := causeOf(code)
	if !again {
		return &refusedError{err: err, reason: reasonOf(code)}
	}
	return &retryableError{err: err, after: parseRetryAfter(response.Header.Get("Retry-After"), time.Now()), cause: cause}
}

// causeOf tells the statuses that a later try may change (RFC 9110 section 15.5.9, RFC 6585 section 4, RFC 9110 section
// 15.6) from those that stand. 500 is among them: it is the Brain's answer while its database is locked.
func causeOf(code int) (cause retryCause, again bool) {
	switch {
	case code == http.StatusRequestTimeout:
		return causeTimeout, true
	case code == http.StatusTooManyRequests:
		return causeThrottled, true
	case code/100 == 5:
		return causeServerError, true
	default:
		return 0, false
	}
}

func reasonOf(code int) dropReason {
	switch {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return reasonUnauthorized
	case code == http.StatusRequestEntityTooLarge:
		return reasonTooLarge
	case code/100 == 3:
		return reasonRedirect
	default:
		return reasonRejected
	}
}
