package deliver

import (
	"encoding/base64"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const redacted = "[redacted]"

// secrets are texts of a request that what comes back may repeat, and that must not be shown. The longest is first.
type secrets []string

// newSecrets takes secrets as they are, each of which may be empty, and adds what they are written as in answers.
func newSecrets(plain ...string) (all secrets) {
	for _, text := range plain {
		if text != "" {
			quoted := strconv.Quote(text)
			all = append(all, text, quoted[1:len(quoted)-1], html.EscapeString(text), url.QueryEscape(text),
				base64.StdEncoding.EncodeToString([]byte(text)))
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}

// redact replaces every secret in a text. If the text was cut off, what may be the beginning of one goes too.
func (s secrets) redact(text string, cut bool) string {
	if len(s) == 0 {
		return text
	}
	pairs := make([]string, 0, 2*len(s))
	for _, secret := range s {
		pairs = append(pairs, secret, redacted)
	}
	text = strings.NewReplacer(pairs...).Replace(text)
	if cut {
		text = text[:max(0, len(text)-len(s[0])+1)]
	}
	return text
}
