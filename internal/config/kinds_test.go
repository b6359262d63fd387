package config

import (
	"math/big"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0":           0,
		"5":           5 * time.Second,
		"0.5":         500 * time.Millisecond,
		".25":         250 * time.Millisecond,
		"5.":          5 * time.Second,
		"0.000000001": 1,
		"5s":          5 * time.Second,
		"1m30s":       90 * time.Second,
		"1h2m3s4ms":   time.Hour + 2*time.Minute + 3*time.Second + 4*time.Millisecond,
		"-5s":         -5 * time.Second, // the limits refuse it
	} {
		if got, ok := parseDuration(text); !ok || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", ".", "1.2.3", "-5", "+5", "1h5", "5 s", "1e3", "0x5", "inf", "nan", "5d", "10000000000"} {
		if got, ok := parseDuration(text); ok {
			t.Errorf("%q: %v, want none", text, got)
		}
	}
}

// FuzzDuration compares with exact arithmetic for bare seconds, and with Go's notation for the rest.
func FuzzDuration(f *testing.F) {
	for _, text := range []string{"5", "0.5", ".5", "5.", "5s", "1m30s", "", ".", "1.2.3", "-5", "9223372036.854775807", "1e3"} {
		f.Add(text)
	}
	bare := regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9})?$`)
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseDuration(text)
		switch goes, err := time.ParseDuration(text); {
		case bare.MatchString(text):
			seconds, _ := new(big.Rat).SetString(text)
			if exact := new(big.Rat).Mul(seconds, big.NewRat(1e9, 1)); !ok || exact.Cmp(big.NewRat(int64(got), 1)) != 0 {
				t.Errorf("%q: %v, %v; want %s ns", text, got, ok, exact)
			}
		case strings.ContainsAny(text, "hmsnuµ"):
			if ok != (err == nil) || got != goes {
				t.Errorf("%q: %v, %v; want %v, %v", text, got, ok, goes, err)
			}
		case ok && strings.Trim(text, "0123456789.+-") != "":
			t.Errorf("%q: %v without a unit", text, got)
		}
	})
}

func TestParseByteSize(t *testing.T) {
	for text, want := range map[string]ByteSize{
		"0":                   0,
		"7":                   7,
		"7B":                  7,
		"1KB":                 1000,
		"1kB":                 1000,
		"1KiB":                1024,
		"3 MB":                3000000,
		"64MiB":               67108864,
		"1gb":                 1000000000,
		"1GiB":                1073741824,
		"9223372036854775807": 9223372036854775807,
		"8589934591GiB":       8589934591 << 30,
	} {
		if got, ok := parseByteSize(text); !ok || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "B", "MiB", "-1", "+1", "1.5GiB", "1e3", "0x10", "1K", "1Mi", "1TiB", "1 Mi B", "9223372036854775808", "8589934592GiB", "17179869184GiB",
	} {
		if got, ok := parseByteSize(text); ok {
			t.Errorf("%q: %d, want none", text, got)
		}
	}
}

// FuzzByteSize compares with arithmetic that has no bounds.
func FuzzByteSize(f *testing.F) {
	for _, text := range []string{"0", "64MiB", "1 GB", "1kb", "7B", "", "-1", "9223372036854775807", "8589934592GiB", "18446744073709551617KiB", "0\vB"} {
		f.Add(text)
	}
	form := regexp.MustCompile(`^([0-9]+) *(?i:(k|m|g)(i?)b|b)?$`)
	power := map[string]int64{"": 0, "k": 1, "m": 2, "g": 3}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }) {
			return // trimmed before it gets here; beyond ASCII, letters fold into a unit's in more ways than one
		}
		got, ok := parseByteSize(text)
		parts := form.FindStringSubmatch(text)
		if parts == nil {
			if ok {
				t.Errorf("%q: %d, want none", text, got)
			}
			return
		}
		base := big.NewInt(1000)
		if parts[3] != "" {
			base = big.NewInt(1024)
		}
		want, _ := new(big.Int).SetString(parts[1], 10)
		want.Mul(want, base.Exp(base, big.NewInt(power[strings.ToLower(parts[2])]), nil))
		if ok != want.IsInt64() || ok && int64(got) != want.Int64() {
			t.Errorf("%q: %d, %v; want %s", text, got, ok, want)
		}
	})
}

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{ // the path, or the URL as it is logged
		"file:flows.ndjson":              "flows.ndjson",
		"file:/var/log/flows":            "/var/log/flows",
		"file:///var/log/flows":          "/var/log/flows",
		"http://brain":                   "http://brain",
		"HTTPS://brain:8443/ingest":      "https://brain:8443/ingest",
		"http://[fe80::1%25eth0]:8000/i": "http://[fe80::1%25eth0]:8000/i",
		"http://me:secret@brain/i":       "http://me:xxxxx@brain/i",
	} {
		got, err := parseEndpoint(text)
		shown := got.Path
		if got.URL != nil {
			shown = got.URL.Redacted()
		}
		if err != nil || shown != want {
			t.Errorf("%q: %q, %v; want %q", text, shown, err, want)
		}
	}
}

// TestParseEndpointRefuses: what is wrong is named, and none of it quoted.
func TestParseEndpointRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"http://127.0.0.1:99999/":  errPort,
		"http://127.0.0.1:0/":      errPort,
		"http://me:se/cret@brain/": errPort,
		"https://brain:https/":     errPort,
		"http://a b:80/":           errBlank,
		" http://a b:80/ ":         errBlank,
		"http:// brain/":           errBlank,
		"http://":                  errEndpoint,
		"http://[::1/":             errEndpoint,
		"ftp://brain/":             errEndpoint,
		"file:":                    errEndpoint,
		"file://host/path":         errEndpoint,
		"brain:8000":               errEndpoint,
	} {
		if got, err := parseEndpoint(text); err != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, text := range []string{"stdout", "file:x", "file:///x", "file://h/x", "http://h:80/p?q#f", "https://[::1]:0/", "http://u:p@h", "http:h", "://"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseEndpoint(text)
		if err != nil {
			return
		}
		switch {
		case got.URL != nil:
			if got.URL.Hostname() == "" || got.URL.Scheme != "http" && got.URL.Scheme != "https" || got.Path != "" {
				t.Errorf("%q has URL %q and path %q", text, got.URL, got.Path)
			}
		case got.Path != "":
			if !strings.HasSuffix(text, got.Path) {
				t.Errorf("%q has path %q", text, got.Path)
			}
		case !strings.EqualFold(text, "stdout"):
			t.Errorf("%q is standard output", text)
		}
	})
}

func FuzzInterfaces(f *testing.F) {
	for _, text := range []string{"auto", "all", "eth0", "eth0, en*,veth[0-9]", "a,,b", `\`, "[", "a/b", "a\u00a0b", "ALL,x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseInterfaces(text)
		if ok && (got.Mode == InterfacesNamed) != (len(got.Patterns) > 0) {
			t.Errorf("%q: mode %d with %q", text, got.Mode, got.Patterns)
		}
		for _, pattern := range got.Patterns {
			literal, err := path.Match(pattern, pattern)
			if err != nil {
				t.Errorf("%q: pattern %q: %v", text, pattern, err)
			}
			if literal && len(pattern) > 15 && !strings.ContainsAny(pattern, `*?[\`) {
				t.Errorf("%q: name %q is longer than the kernel's", text, pattern)
			}
			if strings.ContainsAny(pattern, "/: \t\n,") || pattern == "" {
				t.Errorf("%q: pattern %q", text, pattern)
			}
		}
	})
}

func FuzzListen(f *testing.F) {
	for _, text := range []string{"127.0.0.1:9478", ":0", "[::1]:80", "[fe80::1%eth0]:80", "localhost:65535", "a:b", "::1:80", "h:065", "\u0130:0"} {
		f.Add(text)
	}
	form := regexp.MustCompile(`^([A-Za-z0-9._-]*|\[[^\[\]]*\]):[0-9]+$`)
	f.Fuzz(func(t *testing.T, text string) {
		if _, ok := parseListen(text); ok && !form.MatchString(text) {
			t.Errorf("%q is no address to listen at", text)
		}
	})
}
