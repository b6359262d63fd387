package testja4

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Values are the distinct fingerprints of a capture, by method.
type Values map[string]map[string]bool

// Add notes a fingerprint.
func (v Values) Add(method, value string) {
	if v[method] == nil {
		v[method] = map[string]bool{}
	}
	v[method][value] = true
}

// Expected returns the fingerprints that a capture has by the implementation that is to be believed for each method. FoxIO's
// own disagree: the one in Rust tells more of TLS, HTTP, latency and SSH than that for Wireshark, which alone tells of DHCP and
// has TCP as it is described.
func Expected(t testing.TB, capture string) Values {
	t.Helper()
	rust, wireshark := readRust(t, capture), readWireshark(t, capture)
	expected := Values{}
	for _, method := range []string{"ja4t", "ja4ts", "ja4d", "ja4s_r", "ja4x_r"} {
		expected[method] = wireshark[method]
	}
	for _, method := range []string{"ja4", "ja4s", "ja4x", "ja4l", "ja4ls"} {
		expected[method] = rust[method]
	}
	expected["ja4h"] = filter(rust["ja4h"], overHTTP1)
	expected["ja4h_r"] = filter(wireshark["ja4h_r"], overHTTP1)
	expected["ja4ssh"] = filter(rust["ja4ssh"], func(value string) bool { return fullWindow(t, value) })
	return expected
}

func filter(values map[string]bool, keep func(string) bool) map[string]bool {
	kept := maps.Clone(values)
	maps.DeleteFunc(kept, func(value string, _ bool) bool { return !keep(value) })
	return kept
}

// overHTTP1 tells a JA4H of HTTP/1 from one of HTTP/2, which is encrypted, and read with the keys that the capture has.
func overHTTP1(value string) bool {
	return value[2] == '1'
}

// fullWindow tells a JA4SSH of 200 packets from one of what was left when the capture ended, on which there is no agreement.
func fullWindow(t testing.TB, value string) bool {
	t.Helper()
	var client, server, packets [2]int
	_, err := fmt.Sscanf(value, "c%ds%d_c%ds%d_c%ds%d", &client[0], &server[0], &packets[0], &packets[1], &client[1], &server[1])
	if err != nil {
		t.Fatalf("JA4SSH %q: %v", value, err)
	}
	return packets[0]+packets[1] == 200
}

// A line of Rust's snapshot that names a fingerprint. It is YAML, but as such 781_238 would be a number.
var (
	rustLine   = regexp.MustCompile(`^ *(?:- )?(ja4\w*): (.+)$`)
	rustWindow = regexp.MustCompile(`^ *- (c\d+s\d+_\S+)$`)
)

var rustNames = map[string]string{"ja4l_c": "ja4l", "ja4l_s": "ja4ls"}

func readRust(t testing.TB, capture string) Values {
	t.Helper()
	values := Values{}
	for line := range strings.Lines(string(read(t, capture, "rust", ".snap"))) {
		line = strings.TrimRight(line, "\n")
		if match := rustWindow.FindStringSubmatch(line); match != nil {
			values.Add("ja4ssh", match[1])
		}
		if match := rustLine.FindStringSubmatch(line); match != nil {
			method := match[1]
			if name, ok := rustNames[method]; ok {
				method = name
			}
			values.Add(method, strings.Trim(match[2], `'"`))
		}
	}
	return values
}

func readWireshark(t testing.TB, capture string) Values {
	t.Helper()
	var packets []struct {
		Source struct {
			Layers map[string][]string `json:"layers"`
		} `json:"_source"`
	}
	if err := json.Unmarshal(read(t, capture, "wireshark", ".json"), &packets); err != nil {
		t.Fatalf("what Wireshark says of %s: %v", capture, err)
	}
	values := Values{}
	for _, packet := range packets {
		for field, found := range packet.Source.Layers {
			for _, value := range found {
				values.Add(strings.TrimPrefix(field, "ja4."), value)
			}
		}
	}
	return values
}

// read returns what one implementation printed for a capture.
func read(t testing.TB, capture, implementation, extension string) []byte {
	t.Helper()
	folder, name := filepath.Split(capture)
	contents, err := os.ReadFile(filepath.Join(folder, "..", implementation, name+extension))
	if err != nil {
		t.Fatalf("read what is expected of a capture: %v", err)
	}
	return contents
}
