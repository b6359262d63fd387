package deliver

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestFormatsAndCompressions(t *testing.T) {
	formats := []struct {
		format      Format
		contentType string
		requests    int
	}{
		{FormatAuto, "application/json", 3},
		{FormatArray, "application/json", 3},
		{FormatNDJSON, "application/x-ndjson", 3},
		{FormatSingle, "application/json", 25},
	}
	for _, test := range formats {
		for _, compression := range []Compression{CompressionNone, CompressionGzip, CompressionZstd} {
			t.Run(fmt.Sprintf("%s, %s", test.format, compression), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testFormat(t, test.format, compression, test.contentType, test.requests) })
			})
		}
	}
}

func testFormat(t *testing.T, format Format, compression Compression, contentType string, requests int) {
	b := newMemoryBrain(t)
	cfg := toBrain(b)
	cfg.Format, cfg.Compression = format, compression
	d, _ := b.deliverAll(t, cfg, 25)
	if !slices.Equal(b.got, sequence(0, 25)) {
		t.Errorf("the Brain got %v", b.got)
	}
	wantBooks(t, d, books{delivered: 25, batchDelivered: 3})
	keys := make(map[string]bool)
	for _, r := range b.requests {
		keys[r.key] = true
		if r.contentType != contentType {
			t.Errorf("Content-Type %q, want %q", r.contentType, contentType)
		}
		if len(r.key) < 10 || r.key[0] != '"' || r.key[len(r.key)-1] != '"' {
			t.Errorf("Idempotency-Key %s is not a quoted string", r.key)
		}
	}
	if len(b.requests) != requests || len(keys) != requests {
		t.Errorf("%d requests with %d keys, want %d", len(b.requests), len(keys), requests)
	}
	if b.dialled != 1 {
		t.Errorf("%d connections, want 1", b.dialled)
	}
}

func TestAuto(t *testing.T) {
	refuse := func(status int, numbers ...int) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, _ *http.Request, number int) bool {
			if !slices.Contains(numbers, number) {
				return false
			}
			w.WriteHeader(status)
			return true
		}
	}
	tests := []autoTest{
		{"takes arrays", false, 10, nil, 2, false, books{delivered: 20, batchDelivered: 2}},
		{"refuses arrays", true, 10, nil, 21, true, books{delivered: 20, batchDelivered: 2}},
		{
			"refuses arrays after a fault", true, 10, refuse(500, 1), 22, true,
			books{delivered: 20, batchDelivered: 2, retryServer: 1},
		},
		{
			"refuses one event of many", true, 10, refuse(422, 5), 21, true,
			books{delivered: 19, rejected: 1, batchDelivered: 1, batchPartial: 1},
		},
		{
			"refuses a batch after it took one", false, 10, refuse(422, 2), 2, false,
			books{delivered: 10, rejected: 10, batchDelivered: 1, batchDropped: 1},
		},
		{"400 is not 422", false, 10, refuse(400, 1), 2, false, books{delivered: 10, rejected: 10, batchDelivered: 1, batchDropped: 1}},
		{"batches of one", true, 1, nil, 20, false, books{delivered: 20, batchDelivered: 20}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { synctest.Test(t, test.run) })
	}
}

// autoTest is a Brain that takes arrays or not, and what becomes of 20 events in batches of size.
type autoTest struct {
	name     string
	singles  bool
	size     int
	answer   func(http.ResponseWriter, *http.Request, int) bool
	requests int
	switched bool
	want     books
}

func (test autoTest) run(t *testing.T) {
	b := newMemoryBrain(t)
	b.singles, b.answer = test.singles, test.answer
	cfg := toBrain(b)
	cfg.BatchSize = test.size
	d, logs := b.deliverAll(t, cfg, 20)
	wantBooks(t, d, test.want)
	if len(b.requests) != test.requests {
		t.Errorf("%d requests, want %d", len(b.requests), test.requests)
	}
	if n := logs.FilterMessageSnippet("does not take arrays").Len(); (n == 1) != test.switched || n > 1 {
		t.Errorf("the switch was logged %d times, switched is %v", n, test.switched)
	}
	if b.dialled != 1 {
		t.Errorf("%d connections, want 1", b.dialled)
	}
}

func TestStatuses(t *testing.T) {
	tests := map[int]books{
		200: {delivered: 10, batchDelivered: 1},
		201: {delivered: 10, batchDelivered: 1},
		204: {delivered: 10, batchDelivered: 1},
		301: {delivered: 10, batchDelivered: 1, retryRedirect: 1},
		304: {delivered: 10, batchDelivered: 1, retryRedirect: 1},
		400: {rejected: 10, batchDropped: 1},
		404: {delivered: 10, batchDelivered: 1, retryStatus: 1},
		415: {rejected: 10, batchDropped: 1},
		422: {rejected: 10, batchDropped: 1},
		407: {delivered: 10, batchDelivered: 1, retryAuth: 1},
		408: {delivered: 10, batchDelivered: 1, retryTimeout: 1},
		429: {delivered: 10, batchDelivered: 1, retryThrottled: 1},
		500: {delivered: 10, batchDelivered: 1, retryServer: 1},
		503: {delivered: 10, batchDelivered: 1, retryServer: 1},
		599: {delivered: 10, batchDelivered: 1, retryServer: 1},
	}
	for _, status := range slices.Sorted(maps.Keys(tests)) {
		want := tests[status]
		b := newBrain(t)
		b.answer = func(w http.ResponseWriter, _ *http.Request, number int) bool {
			if number > 1 {
				return false
			}
			w.Header().Set("Location", b.URL+"/elsewhere")
			w.WriteHeader(status)
			return true
		}
		cfg := toBrain(b)
		cfg.Format = FormatArray
		d, _ := b.deliverAll(t, cfg, 10)
		if got := readBooks(d); got != want {
			t.Errorf("status %d:\n got %+v\nwant %+v", status, got, want)
		}
		retried := want.delivered > 0 && status/100 != 2
		if n := len(b.requests); (n == 2) != retried || n > 2 {
			t.Errorf("status %d: %d requests", status, n)
		}
		if retried && (b.requests[0].key != b.requests[1].key || !bytes.Equal(b.requests[0].body, b.requests[1].body)) {
			t.Errorf("status %d: the retry had another key or body", status)
		}
		if n := testutil.CollectAndCount(d.metrics.duration); n != 1 {
			t.Errorf("status %d: %d histograms", status, n)
		}
	}
}

// The acceptance of a batch whose answer was lost is not known, so it is sent again: with the same key.
func TestLostAnswer(t *testing.T) {
	b := newBrain(t)
	b.answer = func(w http.ResponseWriter, _ *http.Request, number int) bool {
		if number > 3 {
			return false
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		_ = conn.Close()
		return true
	}
	d, _ := b.deliverAll(t, toBrain(b), 10)
	got := readBooks(d)
	if got.delivered != 10 || got.retryConnection == 0 {
		t.Errorf("books: %+v", got)
	}
	for _, r := range b.requests {
		if r.key != b.requests[0].key || !bytes.Equal(r.body, b.requests[0].body) {
			t.Error("a retry had another key or body")
		}
	}
}

func TestSilentBrainTimesOut(t *testing.T) {
	b := newBrain(t)
	b.answer = func(_ http.ResponseWriter, r *http.Request, number int) bool {
		if number == 1 {
			<-r.Context().Done()
		}
		return number == 1
	}
	cfg := toBrain(b)
	cfg.RequestTimeout = 50 * time.Millisecond
	d, _ := b.deliverAll(t, cfg, 10)
	if got := readBooks(d); got.delivered != 10 || got.retryTimeout == 0 || got.retryConnection != 0 {
		t.Errorf("books: %+v", got)
	}
}

func TestBrainThatIsDown(t *testing.T) {
	b := newBrain(t)
	cfg := toBrain(b)
	b.Close()
	d, _ := newTest(t, cfg)
	r := run(d)
	addEvents(d, 0, 10)
	eventually(t, "a retry", func() bool { return readBooks(d).retryConnection > 0 })
	if _, reason := d.Status(); !strings.Contains(reason, "connection refused") || !strings.HasPrefix(reason, "the Brain has not") {
		t.Errorf("Status: %s", reason)
	}
	r.stop()
	r.wait(t)
	if got := readBooks(d); got.shutdown != 10 || got.events() != 10 {
		t.Errorf("books: %+v", got)
	}
}

// What an answer says beyond its status must neither hold up delivery nor fill memory.
func TestAnswerBodies(t *testing.T) {
	tests := map[string]struct {
		write func(w http.ResponseWriter, r *http.Request)
		reuse bool
	}{
		"short": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Repeat("x", maxAnswer-1))
		}, true},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, false},
		"dripping": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newMemoryBrain(t)
				b.answer = func(w http.ResponseWriter, r *http.Request, _ int) bool {
					test.write(w, r)
					return true
				}
				d, _ := b.deliverAll(t, toBrain(b), 20)
				wantBooks(t, d, books{delivered: 20, batchDelivered: 2})
				if reused := b.dialled == 1; reused != test.reuse {
					t.Errorf("%d connections for 2 requests", b.dialled)
				}
			})
		})
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	var authorization []string
	b := newBrain(t)
	b.answer = func(w http.ResponseWriter, r *http.Request, number int) bool {
		b.mu.Lock()
		authorization = append(authorization, r.Header.Get("Authorization")+" "+r.URL.RawQuery)
		b.mu.Unlock()
		if number == 1 {
			panic(http.ErrAbortHandler)
		}
		if number == 2 {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "\x1b[31mno\n"+strings.Repeat("x", 300))
		}
		return number == 2
	}
	cfg := toBrain(b)
	cfg.URL.User, cfg.URL.RawQuery = url.UserPassword("me", "hunter2"), "key=hunter3"
	cfg.URL.Path = "/hooks/hunter4"
	d, logs := newTest(t, cfg)
	r := run(d)
	addEvents(d, 0, 10)
	eventually(t, "the refusal", func() bool { return readBooks(d).rejected == 10 })
	_, reason := d.Status()
	d.Close()
	r.wait(t)
	b.Close() // its handlers are done
	if want := `the Brain answered 400 Bad Request: "\x1b[31mno\n` + strings.Repeat("x", 192) + `"`; !strings.HasSuffix(reason, want) {
		t.Errorf("Status: %s, want the end %s", reason, want)
	}
	for _, got := range authorization {
		if want := "Basic bWU6aHVudGVyMg== key=hunter3"; got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
	}
	text := reason
	for _, entry := range logs.All() {
		text += fmt.Sprintln(entry.Message, entry.ContextMap())
	}
	if strings.Contains(text, "hunter") || strings.Contains(text, "bWU6") || strings.ContainsRune(text, '\x1b') {
		t.Errorf("logged: %s", text)
	}
	if !strings.Contains(text, "endpoint:http://"+cfg.URL.Host+"/...]") {
		t.Errorf("the endpoint is not logged: %s", text)
	}
}

// An answer that repeats what was sent, whole or in part, shows none of the secrets in it: on a status as on a fault.
func TestEchoedSecretsAreNotShown(t *testing.T) {
	const token, password, key, hook = "s3cr3t+tok/en==", `p"ss<w&rd`, "k3y-of-query", "hook5-path"
	tokenPath := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenPath, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + password))
	everything := strings.Join([]string{
		key, token, password, hook, basic, url.QueryEscape(token), url.QueryEscape(password), html.EscapeString(password),
		strconv.Quote(password), base64.StdEncoding.EncodeToString([]byte(token)),
	}, "\n")
	answers := map[string]string{
		"all":        everything,
		"at the cut": strings.Repeat("x", shownAnswer-5) + everything,
		"often":      strings.Repeat(token+password+basic, maxAnswer/10),
		"no answer":  "",
	}
	for name, body := range answers {
		for _, withToken := range []bool{true, false} {
			t.Run(fmt.Sprint(name, withToken), func(t *testing.T) {
				b := newBrain(t)
				b.answer = func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if body != "" {
						w.WriteHeader(http.StatusInternalServerError)
						fmt.Fprint(w, body)
						return true
					}
					conn, _, err := http.NewResponseController(w).Hijack()
					b.note(err)
					fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", strings.Fields(r.Header.Get("Authorization"))[1])
					b.note(conn.Close())
					return true
				}
				cfg := toBrain(b)
				cfg.URL.User, cfg.URL.RawQuery, cfg.URL.Path = url.UserPassword("me", password), "key="+key, "/"+hook
				if withToken {
					cfg.Credentials.TokenPath = tokenPath
				}
				d, logs := newTest(t, cfg)
				r := run(d)
				addEvents(d, 0, 10)
				eventually(t, "a failure", func() bool { _, reason := d.Status(); return reason != "delivering" })
				_, reason := d.Status()
				r.stop()
				r.wait(t)
				shown := fmt.Sprint(reason, logs.All())
				sent := []string{password[:4], key, hook, basic[:4], html.EscapeString(password)[4:]}
				if withToken {
					sent = []string{token[:4], password[:4], key, hook}
				}
				for _, secret := range sent {
					if strings.Contains(shown, secret) {
						t.Errorf("%s is shown: %s", secret, shown)
					}
				}
				if !strings.Contains(reason, redacted[:5]) {
					t.Errorf("Status: %s", reason)
				}
			})
		}
	}
}

func TestRetryAfterHeader(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		a := &answer{Response: &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"120"}}}}
		retry, ok := errors.AsType[*retryableError](new(httpSink).judge(FormatArray, a, nil))
		if !ok || retry.after != 2*time.Minute {
			t.Errorf("status %d: %+v, want a retry after 2 minutes", status, retry)
		}
	}
}
