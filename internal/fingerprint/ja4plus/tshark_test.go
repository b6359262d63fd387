package ja4plus

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// dissect returns what tshark finds in each of some packets: of each field the values, in their order.
func dissect(t *testing.T, packets [][]byte, fields ...string) [][][]string {
	t.Helper()
	var frames []testnet.Captured
	for i, packet := range packets {
		frames = append(frames, testnet.Captured{At: time.Duration(i) * time.Second, Frame: packet})
	}
	file := filepath.Join(t.TempDir(), "made.pcap")
	if err := os.WriteFile(file, testnet.Pcap(t, frames...), 0o600); err != nil {
		t.Fatal(err)
	}
	found := testnet.Dissect(t, file, fields...)
	if len(found) != len(packets) {
		t.Fatalf("tshark finds %d packets, want %d", len(found), len(packets))
	}
	return found
}

// differ fails for each packet of which tshark's fields say something else.
func differ(t *testing.T, packets [][]byte, got, want []string) {
	t.Helper()
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%x: %q, by tshark's fields %q", packets[i], got[i], want[i])
		}
	}
}

func hyphens(list []string) string {
	if len(list) == 0 {
		return "00"
	}
	return strings.Join(list, "-")
}

// last returns the last number of a list, or 0.
func last(list []string) int {
	n := 0
	if len(list) > 0 {
		n, _ = strconv.Atoi(list[len(list)-1])
	}
	return n
}

// letter returns a letter if there is something in a list, or n.
func letter(list []string, of string) string {
	if len(list) > 0 {
		return of
	}
	return "n"
}

// random returns n bytes.
func random(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// TestAgainstTshark makes messages at random, and evaluates what tshark finds in them by the rules of the methods.
func TestAgainstTshark(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	t.Run("JA4T", func(t *testing.T) { synsAgainstTshark(t, r) })
	t.Run("JA4D", func(t *testing.T) { dhcpAgainstTshark(t, r) })
	t.Run("JA4D6", func(t *testing.T) { dhcp6AgainstTshark(t, r) })
}

const samples = 500

func synsAgainstTshark(t *testing.T, r *rand.Rand) {
	known := []string{
		"\x00", "\x01", "\x01\x01", "\x02\x04\x05\xb4", "\x02\x04\x00\x00", "\x02\x03\x05", "\x03\x03\x07", "\x03\x03\x00",
		"\x03\x04\x07\x00", "\x04\x02", "\x04\x03\x01", "\x08\x0a12345678", "\x08\x04ab", "\x13\x04ab", "\x1e\x04\x00\x81",
		"\x22\x02", "\x22\x06\x01\x02\x03\x04", "\x45\x02", "\xfd\x04ab", "\x08\x00", "\x05\x01", "\x02\xff",
	}
	var packets [][]byte
	var got, want []string
	for range samples {
		options := ""
		for range r.IntN(7) {
			options += known[r.IntN(len(known))]
		}
		for len(options)%4 > 0 || len(options) > 40 {
			options = (options + "\x00\x00\x00")[:min(len(options)+3, 40)&^3]
		}
		s := testnet.Segment{Flags: testnet.SYN, Window: uint16(r.Uint32()), Options: []byte(options)}
		packets = append(packets, s.Packet("10.0.0.1:40000", "10.0.0.2:80").Bytes())
		got = append(got, JA4T(flow.Opening{TimeNs: 1, Window: s.Window, Options: s.Options}).Value)
	}
	fields := []string{"tcp.window_size_value", "tcp.option_kind", "tcp.options.mss_val", "tcp.options.wscale.shift"}
	for _, f := range dissect(t, packets, fields...) {
		scale := "00"
		if last(f[3]) > 0 {
			scale = f[3][len(f[3])-1]
		}
		want = append(want, fmt.Sprintf("%d_%s_%02d_%s", last(f[0]), hyphens(f[1]), last(f[2]), scale))
	}
	differ(t, packets, got, want)
}

func dhcpAgainstTshark(t *testing.T, r *rand.Rand) {
	names := []string{"\x00\x00\x00", "\x00\x00\x00host", "\x04\x00\x00\x04host\x02de\x00"}
	var packets [][]byte
	var got, want []string
	for range samples {
		options := []string{"\x35\x01" + string([]byte{byte(1 + r.IntN(20))})}
		for range r.IntN(8) {
			code := []byte{0, 12, 50, 52, 55, 57, 61, 81, 82}[r.IntN(9)]
			value := map[byte]string{
				12: "name", 50: random(r, 4), 52: string([]byte{byte(1 + r.IntN(3))}), 55: random(r, 1+r.IntN(9)), 57: random(r, 2),
				61: random(r, 7), 81: names[r.IntN(len(names))], 82: "\x01\x02ab",
			}[code]
			options = append(options, string([]byte{code, byte(len(value))})+value) // of 0 it is two paddings
		}
		r.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
		message := message4(append(options, "\xff", "\x00")...)
		copy(message[44:], "\x42\x02ab\x37\x01\x09\xff")
		copy(message[108:], "\x00\x43\x01c")
		packets = append(packets, testnet.Datagram("0.0.0.0:68", "255.255.255.255:67", message).Bytes())
		got = append(got, JA4D(message).Value)
	}
	fields := []string{
		"dhcp.option.dhcp", "dhcp.option.dhcp_max_message_size", "dhcp.option.requested_ip_address", "dhcp.fqdn.name", "dhcp.option.type",
		"dhcp.option.request_list_item",
	}
	for _, f := range dissect(t, packets, fields...) {
		ignored := []string{"0", "53", "50", "81"}
		f[4] = slices.DeleteFunc(f[4], func(code string) bool { return slices.Contains(ignored, code) })
		want = append(want, fmt.Sprintf("%s%04d%s%s_%s_%s", messageName(messageNames, uint8(last(f[0]))), min(last(f[1]), 9999),
			letter(f[2], "i"), letter(f[3], "d"), hyphens(f[4]), hyphens(f[5])))
	}
	differ(t, packets, got, want)
}

// options6At returns up to three options of DHCPv6 at random, with others within them up to a depth.
func options6At(r *rand.Rand, depth int) string {
	names := []string{"", "host", "\x04host", "\x04host\x00", "\x04host\x07example\x00", "\x04host\x07example", "\x00"}
	all := ""
	for range r.IntN(4) {
		inner := ""
		if depth > 0 {
			inner = options6At(r, depth-1)
		}
		code := []uint16{1, 2, 3, 4, 5, 6, 8, 9, 14, 16, 25, 26, 39, 44, 45, 94}[r.IntN(16)]
		all += option6(code, map[uint16]string{
			1: "\x00\x01\x00\x01" + random(r, 4+r.IntN(8)), 2: "\x00\x03\x00\x01" + random(r, 6), 3: random(r, 12) + inner,
			4: random(r, 4) + inner, 5: random(r, 24) + inner, 6: random(r, 2*r.IntN(5)), 8: random(r, 2),
			9: message6(1, inner), 16: "\x00\x00\x01\x37\x00\x04MSFT", 25: random(r, 12) + inner, 26: random(r, 25) + inner,
			39: "\x00" + names[r.IntN(len(names))], 44: "\x01" + random(r, 16) + inner, 45: inner,
			94: inner,
		}[code])
	}
	return all
}

func dhcp6AgainstTshark(t *testing.T, r *rand.Rand) {
	var packets [][]byte
	var got, want []string
	for range samples {
		message := message6(byte(1+r.IntN(11)), options6At(r, 2))
		packets = append(packets, testnet.Datagram("[fe80::1]:546", "[ff02::1:2]:547", []byte(message)).Bytes())
		got = append(got, JA4D6([]byte(message)).Value)
	}
	fields := []string{
		"dhcpv6.msgtype", "dhcpv6.option.type", "dhcpv6.duid.bytes", "dhcpv6.iata", "dhcpv6.client_domain", "dhcpv6.requested_option_code",
	}
	for i, f := range dissect(t, packets, fields...) {
		kind, _ := strconv.Atoi(f[0][0])
		want = append(want, fmt.Sprintf("%s%04d%s%s_%s_%s", messageName(messageNames6, uint8(kind)), identifierSize(f[1], f[2]),
			letter(f[3], "i"), letter(f[4], "d"), hyphens(f[1]), hyphens(f[5])))
		if len(got[i]) == 0 && len(want[i]) > longestDHCP {
			want[i] = ""
		}
	}
	differ(t, packets, got, want)
}

// identifierSize returns how long the first identifier of a client is, given the options and the identifiers of clients and
// servers in their order.
func identifierSize(codes, identifiers []string) int {
	for _, code := range codes {
		if code == "1" {
			return len(identifiers[0]) / 2
		}
		if code == "2" {
			identifiers = identifiers[1:]
		}
	}
	return 0
}
