package testja4

import (
	"path/filepath"
	"slices"
	"testing"
)

// Difference is a fingerprint that is told and not expected, or expected and not told.
type Difference struct{ Capture, Method, Value string }

// Differences are those that there are, by their reasons.
type Differences map[string][]Difference

// common are what FoxIO's implementations do otherwise.
var common = Differences{
	"of a protocol whose name has other bytes than letters and digits, the hexadecimal form counts, as the method is described": {
		{"tls-non-ascii-alpn.pcapng", "ja4", "t13d151699_8daaf6152771_e5627efa2ab1"},
		{"tls-non-ascii-alpn.pcapng", "ja4", "t13d1516bd_8daaf6152771_e5627efa2ab1"},
	},
	"the server's first data is taken for the client's acknowledgement": {
		{"CVE-2018-6794.pcap", "ja4l", "0_128"},
		{"CVE-2018-6794.pcap", "ja4l", "148_128"},
		{"CVE-2018-6794.pcap", "ja4l", "218_128"},
		{"CVE-2018-6794.pcap", "ja4l", "274_128"},
	},
	"encrypted certificates are read with the keys that the capture has": {
		{"http2-with-cookies.pcapng", "ja4x", "7d5dbb3783b4_a373a9f83c6b_2fbee3f04f3b"},
		{"http2-with-cookies.pcapng", "ja4x", "a373a9f83c6b_7022c563de38_2e3757343cb0"},
		{"http2-with-cookies.pcapng", "ja4x", "a373a9f83c6b_a373a9f83c6b_5d71497f7704"},
		{"http2-with-cookies.pcapng", "ja4x_r", "550406,55040a,550403_550403_" +
			"551d0f,551d25,551d13,551d0e,551d23,2b06010505070101,551d11,551d20,551d1f,2b06010401d679020402"},
		{"http2-with-cookies.pcapng", "ja4x_r", "550406,55040a,55040b,550403_550406,55040a,550403_" +
			"551d0f,551d13,551d0e,551d23,2b06010505070101,551d1f,551d20"},
		{"http2-with-cookies.pcapng", "ja4x_r", "550406,55040a,550403_550406,55040a,550403_" +
			"551d0f,551d25,551d13,551d0e,551d23,2b06010505070101,551d1f,551d20"},
	},
	"the times to live are those of the tunnel around the connection": {
		{"gre-sample.pcap", "ja4l", "36_255"},
		{"gre-sample.pcap", "ja4l", "36_64"},
		{"gre-sample.pcap", "ja4ls", "22952_236"},
		{"gre-sample.pcap", "ja4ls", "22952_63"},
	},
	"a SYN that offers ECN is passed over": {
		{"gre-sample.pcap", "ja4t", "5744_2-4-8-1-3_1436_00"},
		{"gre-sample.pcap", "ja4ts", "5792_2-4-8-1-3_1460_00"},
	},
	"requests of SSDP are told too, which are not of HTTP over TCP": {
		{"ssh2.pcapng", "ja4h_r", "ms11nn040000_HOST,MAN,MX,ST__"},
		{"ssh2.pcapng", "ja4h_r", "ms11nn050000_HOST,MAN,MX,ST,USER-AGENT__"},
	},
}

// InERSPAN are what they do otherwise where a mirrored connection is looked into.
var InERSPAN = Differences{
	"a request without headers is passed over": {
		{"gre-erspan-vxlan.pcap", "ja4h", "ge10nn000000_000000000000_000000000000_000000000000"},
	},
}

// Score is how many of the distinct fingerprints that are expected were found.
type Score struct{ Matched, Expected int }

// Compare holds the distinct fingerprints that are found in each capture against those that are expected. Whatever differs has its
// reason, one that holds for all or one of those that are given, or the test fails. It returns the score of each method.
func Compare(t *testing.T, methods []string, given Differences, find func(capture string) Values) map[string]Score {
	t.Helper()
	scores := map[string]Score{}
	met := map[Difference]bool{}
	for _, capture := range Captures(t) {
		name := filepath.Base(capture)
		want, got := Expected(t, capture), find(capture)
		for _, method := range methods {
			score := scores[method]
			score.Expected += len(want[method])
			for value := range want[method] {
				if got[method][value] {
					score.Matched++
				} else {
					met[Difference{name, method, value}] = true
				}
			}
			scores[method] = score
			for value := range got[method] {
				if !want[method][value] {
					met[Difference{name, method, value}] = true
				}
			}
		}
	}
	explain(t, methods, met, common)
	explain(t, methods, met, given)
	for d := range met {
		t.Errorf("%+v has no reason", d)
	}
	return scores
}

// explain takes off the differences that have a reason, and fails if a reason has no difference.
func explain(t *testing.T, methods []string, met map[Difference]bool, reasons Differences) {
	t.Helper()
	for reason, named := range reasons {
		for _, d := range named {
			if !met[d] && slices.Contains(methods, d.Method) {
				t.Errorf("%+v is none, of which it is said: %s", d, reason)
			}
			delete(met, d)
		}
	}
}
