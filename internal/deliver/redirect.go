package deliver

import (
	"net/http"
	"net/url"
	"strings"
)

const maxRedirects = 3 // that are followed for a batch

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
