package ja4plus

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"weir/internal/fingerprint"
)

// MaxHead is how long the head of an HTTP request may be, in bytes. Servers refuse longer ones too.
const MaxHead = 8 << 10

// JA4H returns the fingerprint of an HTTP/1 client by the head of a request, which is what a stream begins with up to and
// including the empty line: method, version, whether there are cookies and a referer, number of other headers, language, and
// hashes of the headers' names in their order, of the cookies' names and of the cookies, as in
// ge11cr06enus_8c2f9ef95269_2a79f5d9f8b3_7b4d78c057bc. What follows the head does not matter. The raw form holds the cookies,
// and with them what a client proves itself by.
func JA4H(stream []byte) fingerprint.Fingerprint {
	r, ok := parseRequest(stream)
	if !ok {
		return fingerprint.Fingerprint{}
	}
	start := r.summary()
	names := make([]string, len(r.cookies))
	for i, cookie := range r.cookies {
		names[i] = cookieName(cookie)
	}
	value, raw := start, start
	for _, list := range [][]string{r.headers, names, r.cookies} {
		joined := strings.Join(list, ",")
		value += "_" + fingerprint.Hash([]byte(joined))
		raw += "_" + joined
	}
	return fingerprint.Fingerprint{Method: "ja4h", Value: value, Raw: raw}
}

// request is what the method looks at.
type request struct {
	method   string // its first two letters, small
	minor    byte   // digit of the version behind HTTP/1.
	headers  []string
	cookies  []string // "name=value", sorted by name
	cookie   bool     // there is a header of that name, and so on
	referer  bool
	language string // what Accept-Language holds
}

// summary is the part that is never hashed.
func (r *request) summary() string {
	return fmt.Sprintf("%s1%c%c%c%02d%s", r.method, r.minor, flag(r.cookie, 'c'), flag(r.referer, 'r'),
		min(len(r.headers), 99), languageCode(r.language))
}

// parseRequest reads the head of an HTTP/1 request (RFC 9112). It is as tolerant as servers are: a line may end without CR, and
// one that is no header is passed over. It is not ok if the stream does not begin with a whole head.
func parseRequest(stream []byte) (request, bool) {
	stream = stream[:min(len(stream), MaxHead)]
	line, rest, ok := cutLine(stream)
	if !ok {
		return request{}, false
	}
	r, ok := parseRequestLine(line)
	if !ok {
		return request{}, false
	}
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return request{}, false
		}
		if len(line) == 0 {
			break
		}
		name, value, isHeader := strings.Cut(string(line), ":")
		if isHeader && isToken(name) {
			r.header(name, strings.TrimSpace(value))
		}
	}
	slices.SortStableFunc(r.cookies, func(a, b string) int { return strings.Compare(cookieName(a), cookieName(b)) })
	return r, true
}

func cutLine(stream []byte) (line, rest []byte, ok bool) {
	line, rest, ok = bytes.Cut(stream, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest, ok
}

// parseRequestLine reads the method and the version of "GET /path HTTP/1.1". The target may hold anything.
func parseRequestLine(line []byte) (request, bool) {
	const version = " HTTP/1."
	method, _, ok := strings.Cut(string(line), " ")
	end := len(line) - len(version) - 1
	letters := strings.ToLower(strings.ReplaceAll(method, "-", "")) // M-SEARCH is ms
	if !ok || len(letters) < 2 || !isToken(method) || end <= len(method) || string(line[end:len(line)-1]) != version {
		return request{}, false
	}
	minor := line[len(line)-1]
	return request{method: letters[:2], minor: minor}, minor >= '0' && minor <= '9'
}

// header keeps what a header says to the method.
func (r *request) header(name, value string) {
	switch strings.ToLower(name) {
	case "cookie":
		r.cookie = true
		for cookie := range strings.SplitSeq(value, ";") {
			if cookie = strings.TrimSpace(cookie); cookie != "" {
				r.cookies = append(r.cookies, cookie)
			}
		}
		return
	case "referer":
		r.referer = true
		return
	case "accept-language":
		if r.language == "" {
			r.language = value
		}
	}
	r.headers = append(r.headers, name)
}

func cookieName(cookie string) string {
	name, _, _ := strings.Cut(cookie, "=")
	return name
}

// languageCode returns the four letters for what Accept-Language names first: those of its tag, small and without hyphens,
// with zeros behind them if there are fewer.
func languageCode(accepted string) string {
	code := []byte("0000")
	letters := 0
	for i := 0; i < len(accepted) && letters < len(code) && accepted[i] != ',' && accepted[i] != ';'; i++ {
		if b := accepted[i]; b != '-' && b > ' ' && b < 0x7f {
			code[letters] = b
			letters++
		}
	}
	return strings.ToLower(string(code))
}

// isToken says whether a name has only the characters of methods and of headers' names (RFC 9110, section 5.6.2).
func isToken(name string) bool {
	for i := range len(name) {
		b := name[i]
		if b <= ' ' || b >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, b) >= 0 {
			return false
		}
	}
	return name != ""
}
