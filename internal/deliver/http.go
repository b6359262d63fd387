package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

const (
	maxAnswer    = 64 << 10    // bytes of an answer that are read, so that its connection can be used again
	maxDrainTime = time.Second // that reading them may take
	shownAnswer  = 200         // bytes of an answer that are shown
)

// httpSink posts batches to the Brain, each over a connection that is kept alive for the next.
type httpSink struct {
	url         *url.URL // without user and password
	password    string   // of the URL
	header      http.Header
	timeout     time.Duration
	connections int
	encoder     *encoder
	keyring     *keyring
	duration    prometheus.Observer
	dial        func(ctx context.Context, network, addr string) (net.Conn, error)

	mu        sync.Mutex
	format    Format // auto until an array was accepted or refused
	transport *http.Transport
	tls       *tls.Config // the transport's
}

func newHTTPSink(cfg *Config, u *url.URL, duration prometheus.Observer, log *zap.Logger) (*httpSink, error) {
	enc, err := newEncoder(cfg.Compression, cfg.Concurrency)
	if err != nil {
		return nil, err
	}
	s := &httpSink{
		header:      header(cfg, u),
		timeout:     cfg.RequestTimeout,
		connections: cfg.Concurrency,
		encoder:     enc,
		keyring:     &keyring{paths: cfg.Credentials, log: log},
		format:      cfg.Format,
		duration:    duration,
		dial:        (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
	}
	if cfg.Format == FormatAuto && cfg.BatchSize == 1 {
		s.format = FormatSingle
	}
	bare := *u
	bare.User = nil
	s.url = &bare
	s.password, _ = u.User.Password()
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

func (s *httpSink) newTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            s.dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    s.connections,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxAnswer,
		WriteBufferSize:        64 << 10,
		DisableCompression:     true, // answers are not worth unpacking, and may be bombs
	}
}

func (s *httpSink) open() error { return s.keyring.open() }

func (s *httpSink) single() bool { return s.layout() == FormatSingle }

// layout returns the format of the next request.
func (s *httpSink) layout() Format {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.format
}

// learn notes which format the Brain takes.
func (s *httpSink) learn(format Format) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.format = format
}

// connect returns what the next requests are made with. Connections that were made with old credentials are not used
// again.
func (s *httpSink) connect() (token string, transport *http.Transport) {
	token, config := s.keyring.current()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transport == nil || s.tls != config {
		if s.transport != nil {
			s.transport.CloseIdleConnections()
		}
		s.transport, s.tls = s.newTransport(config), config
	}
	return token, s.transport
}

func (s *httpSink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	return nil
}

// send posts b, and follows redirects within the Brain's host.
func (s *httpSink) send(ctx context.Context, b *Batch) error {
	format := s.layout()
	body, err := s.encoder.encode(b, format)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	token, transport := s.connect()
	to := s.url
	for hops := 0; ; hops++ {
		request := s.request(ctx, to, b.ID, token, body)
		answer, err := s.post(transport, request)
		if err != nil {
			transport.CloseIdleConnections() // the Brain may have moved to another address
			return retryable(err, s.secrets(request))
		}
		next := redirected(to, answer.Response)
		if next == nil || hops == maxRedirects {
			return s.judge(format, answer, s.secrets(request))
		}
		to = next
	}
}

// answer is an answer that is closed.
type answer struct {
	*http.Response
	beginning string // of its body
	cut       bool   // there may be more of it
}

// post makes one request. It uses the transport and no client, so no error repeats the URL.
func (s *httpSink) post(transport *http.Transport, r *http.Request) (*answer, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	start := time.Now()
	response, err := transport.RoundTrip(r.WithContext(ctx))
	s.duration.Observe(time.Since(start).Seconds())
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	defer time.AfterFunc(maxDrainTime, cancel).Stop()
	// The answer's status has been read: whether the rest comes does not matter.
	beginning, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return &answer{response, string(beginning), err != nil || len(beginning) == maxAnswer}, nil
}

func (s *httpSink) request(ctx context.Context, to *url.URL, key, token string, body []byte) *http.Request {
	h := s.header.Clone()
	// draft-ietf-httpapi-idempotency-key-header: a structured field string. With it the transport knows that it may
	// repeat a request whose kept-alive connection was closed just then.
	h.Set("Idempotency-Key", `"`+key+`"`)
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	reader := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r := &http.Request{Method: http.MethodPost, URL: to, Header: h, GetBody: reader, ContentLength: int64(len(body))}
	r.Body, _ = reader()
	return r.WithContext(ctx)
}

// secrets returns what a request carries that is nobody's business: credentials, and what of the URL may be a key.
func (s *httpSink) secrets(r *http.Request) secrets {
	_, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	plain := []string{credentials, s.password, s.url.RawQuery, strings.Trim(s.url.Path, "/")}
	for _, values := range s.url.Query() {
		plain = append(plain, values...)
	}
	return newSecrets(plain...)
}

// retryable makes an error of a request that got no answer. An answer that is none is quoted in err, so only err's text
// is kept, without secrets.
func retryable(err error, secrets secrets) error {
	cause := causeConnection
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		cause = causeTimeout
	}
	return &retryableError{err: errors.New("post to the Brain: " + secrets.redact(err.Error(), false)), cause: cause}
}

// judge says what an answer means for what was sent in a format.
func (s *httpSink) judge(format Format, a *answer, secrets secrets) error {
	code := a.StatusCode
	if code/100 == 2 && isPage(a.Header) {
		// The page of a proxy or of a network's login: whoever it is from has not stored the events.
		return &retryableError{err: errors.New("the Brain answered with a web page"), cause: causeServerError}
	}
	if code/100 == 2 {
		if format == FormatAuto {
			s.learn(FormatArray)
		}
		return nil
	}
	if code == http.StatusUnprocessableEntity && format == FormatAuto {
		s.learn(FormatSingle)
		return errArrayRefused
	}
	shown := secrets.redact(a.beginning, a.cut)
	shown = shown[:min(len(shown), shownAnswer)]
	err := fmt.Errorf("the Brain answered %d %s: %s", code, http.StatusText(code), strconv.Quote(shown))
	if reason, refused := refusal(code); refused {
		return &refusedError{err: err, reason: reason}
	}
	after := parseRetryAfter(a.Header.Get("Retry-After"), time.Now())
	return &retryableError{err: err, after: after, cause: causeOf(code)}
}

// isPage says that an answer is for people to read.
func isPage(h http.Header) bool {
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type")) // it is known even if a parameter is malformed
	return media == "text/html" || media == "application/xhtml+xml"
}

// refusal tells the statuses that speak of the body that was sent, and stand (RFC 9110 sections 15.5.1, 15.5.14, 15.5.16
// and 15.5.21). All others speak of the Brain, of the way to it, or of who asks, which may change.
func refusal(code int) (reason dropReason, refused bool) {
	switch code {
	case http.StatusRequestEntityTooLarge:
		return reasonTooLarge, true
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return reasonRejected, true
	default:
		return 0, false
	}
}

// causeOf says why what got a status is sent again. 500 is the Brain's answer while its database is locked, 404 a proxy's
// while the Brain is deployed anew.
func causeOf(code int) retryCause {
	switch code {
	case http.StatusRequestTimeout:
		return causeTimeout
	case http.StatusTooManyRequests, http.StatusTooEarly:
		return causeThrottled
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return causeUnauthorized
	}
	switch code / 100 {
	case 3:
		return causeRedirect
	case 5:
		return causeServerError
	default:
		return causeStatus
	}
}
