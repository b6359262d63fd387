package deliver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

func TestRedirected(t *testing.T) {
	tests := []struct {
		from, location string
		status         int
		want           string // empty if it must not be followed
	}{
		{"http://brain/a", "/b?c=d", 307, "http://brain/b?c=d"},
		{"http://brain/a", "b", 308, "http://brain/b"},
		{"http://brain/a", "//BRAIN:80/b", 308, "http://BRAIN:80/b"},
		{"http://brain/a", "http://me:secret@brain/b", 308, "http://brain/b"},
		{"http://brain/a", "https://brain/a", 308, "https://brain/a"},
		{"http://brain:8080/a", "https://brain:8443/a", 307, "https://brain:8443/a"},
		{"https://brain/a", "https://brain:443/b", 307, "https://brain:443/b"},
		{"http://[::1]:80/a", "http://[::1]/b", 307, "http://[::1]/b"},
		{"http://brain/a", "/b", 301, ""},
		{"http://brain/a", "/b", 302, ""},
		{"http://brain/a", "/b", 303, ""},
		{"http://brain/a", "", 307, ""},
		{"http://brain/a", "http://brain\x7f/", 307, ""},
		{"http://brain/a", "http://brain.example/a", 307, ""},
		{"http://brain/a", "https://brain.example/a", 307, ""},
		{"http://brain/a", "http://brain:8080/a", 307, ""},
		{"https://brain/a", "https://brain:8443/a", 307, ""},
		{"https://brain/a", "http://brain/a", 307, ""},
		{"http://brain/a", "ftp://brain/a", 307, ""},
		{"http://brain/a", "http:b", 307, ""},
	}
	for _, test := range tests {
		response := &http.Response{StatusCode: test.status, Header: http.Header{"Location": {test.location}}}
		got := ""
		if u := redirected(parseURL(test.from), response); u != nil {
			got = u.String()
		}
		if got != test.want {
			t.Errorf("%s answers %d to %q: %q, want %q", test.from, test.status, test.location, got, test.want)
		}
	}
}

// A redirect within the host repeats the request with its key, body and credentials, as often as is allowed.
func TestRedirectsAreFollowed(t *testing.T) {
	for _, hops := range []int{1, maxRedirects, maxRedirects + 1} {
		synctest.Test(t, func(t *testing.T) { testHops(t, hops) })
	}
}

func testHops(t *testing.T, hops int) {
	b := newMemoryBrain(t)
	var authorization []string
	b.answer = func(w http.ResponseWriter, r *http.Request, number int) bool {
		authorization = append(authorization, r.Header.Get("Authorization"))
		if number > hops {
			return false
		}
		w.Header().Set("Location", "/"+strconv.Itoa(number))
		w.WriteHeader(http.StatusPermanentRedirect)
		return true
	}
	cfg := toBrain(b)
	cfg.URL.User = url.UserPassword("me", "hunter2")
	d, _ := b.deliverAll(t, cfg, 10)
	want := books{delivered: 10, batchDelivered: 1}
	if hops > maxRedirects {
		want.retryRedirect = 1 // from the beginning
	}
	wantBooks(t, d, want)
	if n := hops + 1; len(b.requests) != n || b.dialled != 1 {
		t.Errorf("%d redirects: %d requests on %d connections, want %d on 1", hops, len(b.requests), b.dialled, n)
	}
	for i, r := range b.requests {
		if r.key != b.requests[0].key || string(r.body) != string(b.requests[0].body) || authorization[i] != authorization[0] || authorization[i] == "" {
			t.Errorf("%d redirects: request %d differs", hops, i)
		}
	}
}

// Another server must see nothing.
func TestRedirectsElsewhereAreNotFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the other server was asked")
	}))
	defer other.Close()
	for _, location := range []string{other.URL, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)} {
		b := newBrain(t)
		b.answer = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
		d, _ := newTest(t, toBrain(b))
		r := run(d)
		addEvents(d, 0, 10)
		eventually(t, "the answer", func() bool { return readBooks(d).retryRedirect > 0 })
		if got := readBooks(d); got.held != 10 {
			t.Errorf("books: %+v", got)
		}
		r.stop()
		r.wait(t)
	}
}
