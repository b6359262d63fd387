package ja4plus

import (
	"path/filepath"
	"testing"

	"weir/internal/testja4"
)

// methods are those of the package, in the order in which the table has them, and their raw forms.
var methods = []string{"ja4s", "ja4h", "ja4x", "ja4t", "ja4ts", "ja4l", "ja4ls", "ja4ssh", "ja4d", "ja4s_r", "ja4h_r", "ja4x_r"}

// difference is a fingerprint that is told and not expected, or expected and not told.
type difference struct{ capture, method, value string }

// differences are those that there are, by their reasons: what FoxIO's implementations do otherwise.
var differences = map[string][]difference{
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
	"a request without headers is passed over": {
		{"gre-erspan-vxlan.pcap", "ja4h", "ge10nn000000_000000000000_000000000000_000000000000"},
	},
	"requests of SSDP are told too, which are not of HTTP over TCP": {
		{"ssh2.pcapng", "ja4h_r", "ms11nn040000_HOST,MAN,MX,ST__"},
		{"ssh2.pcapng", "ja4h_r", "ms11nn050000_HOST,MAN,MX,ST,USER-AGENT__"},
	},
}

// TestOracle compares the distinct fingerprints of each capture with those that FoxIO's own implementations print for it.
func TestOracle(t *testing.T) {
	matched, expected := map[string]int{}, map[string]int{}
	met := map[difference]bool{}
	for _, capture := range testja4.Captures(t) {
		want, got := testja4.Expected(t, capture), fingerprints(t, capture)
		for _, method := range methods {
			for value := range want[method] {
				expected[method]++
				if got[method][value] {
					matched[method]++
				} else {
					met[difference{filepath.Base(capture), method, value}] = true
				}
			}
			for value := range got[method] {
				if !want[method][value] {
					met[difference{filepath.Base(capture), method, value}] = true
				}
			}
		}
	}
	for reason, named := range differences {
		for _, d := range named {
			if !met[d] {
				t.Errorf("%+v is none, of which it is said: %s", d, reason)
			}
			delete(met, d)
		}
	}
	for d := range met {
		t.Errorf("%+v has no reason", d)
	}
	for _, method := range methods {
		t.Logf("%-6s %3d of %3d", method, matched[method], expected[method])
	}
}
