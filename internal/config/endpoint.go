package config

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Endpoint is where events go: to a Brain, to a file, or, if neither is set, to standard output.
type Endpoint struct {
	Path string   // of a file
	URL  *url.URL // of a Brain, scheme http or https, and a host; its user and its query may be secrets
}

// String is for messages and dumps: it leaves out what may be a secret in a URL, which is all but its scheme and host.
func (e Endpoint) String() string {
	switch {
	case e.URL != nil:
		return (&url.URL{Scheme: e.URL.Scheme, Host: e.URL.Host}).String()
	case e.Path != "":
		return "file:" + e.Path
	default:
		return "stdout"
	}
}

// exposed says that what is sent to e can be read on the way: it is plain HTTP, and not to this host.
func (e Endpoint) exposed() bool {
	if e.URL == nil || e.URL.Scheme != "http" || strings.EqualFold(e.URL.Hostname(), "localhost") {
		return false
	}
	addr, err := netip.ParseAddr(e.URL.Hostname())
	return err != nil || !addr.IsLoopback()
}

// parseEndpoint reads "stdout", "file:PATH" (also "file:///PATH", RFC 8089), or an http or https URL.
func parseEndpoint(text string) (Endpoint, bool) {
	if strings.EqualFold(text, "stdout") {
		return Endpoint{}, true
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		if afterHost, ok := strings.CutPrefix(path, "//"); ok {
			path = afterHost
			if !strings.HasPrefix(path, "/") { // a host's name, not a path
				return Endpoint{}, false
			}
		}
		return Endpoint{Path: path}, path != ""
	}
	target, err := url.Parse(text)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Hostname() == "" {
		return Endpoint{}, false
	}
	if port := target.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return Endpoint{}, false
		}
	}
	return Endpoint{URL: target}, true
}
