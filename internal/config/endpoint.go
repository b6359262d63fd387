package config

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
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

const endpoints = "stdout, file:PATH, or an http:// or https:// URL with a host"

var (
	errEndpoint = errors.New("want " + endpoints)
	errPort     = errors.New("want a port from 1 to 65535")
	errBlank    = errors.New("want a URL without blanks")
)

// parseEndpoint reads "stdout", "file:PATH" (also "file:///PATH", RFC 8089), or an http or https URL. Its errors quote
// nothing: there may be a secret anywhere.
func parseEndpoint(text string) (Endpoint, error) {
	text = strings.TrimSpace(text)
	if strings.EqualFold(text, "stdout") {
		return Endpoint{}, nil
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		if afterHost, ok := strings.CutPrefix(path, "//"); ok {
			path = afterHost
			if !strings.HasPrefix(path, "/") { // a host's name, not a path
				return Endpoint{}, errEndpoint
			}
		}
		if path == "" {
			return Endpoint{}, errEndpoint
		}
		return Endpoint{Path: path}, nil
	}
	return parseURL(text)
}

func parseURL(text string) (Endpoint, error) {
	target, err := url.Parse(text)
	if fault, ok := errors.AsType[*url.Error](err); ok {
		switch {
		case strings.ContainsFunc(text, unicode.IsSpace):
			return Endpoint{}, errBlank
		case strings.HasPrefix(fault.Err.Error(), "invalid port"): // which has no type
			return Endpoint{}, errPort
		}
	}
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Hostname() == "" {
		return Endpoint{}, errEndpoint
	}
	if port := target.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return Endpoint{}, errPort
		}
	}
	return Endpoint{URL: target}, nil
}
