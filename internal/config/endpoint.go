package config

import (
	"net/url"
	"strconv"
	"strings"
)

// Endpoint is where events go: to a Brain, to a file, or, if neither is set, to standard output.
type Endpoint struct {
	Path string   // of a file
	URL  *url.URL // of a Brain, scheme http or https, and a host; its user and its query may be secrets
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
