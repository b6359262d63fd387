package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/internal/testja4"
	"weir/internal/testnet"
)

// TestHandshakesAgainstTshark makes TCP handshakes of every sort at random, and evaluates what tshark says of their packets.
func TestHandshakesAgainstTshark(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	options := []string{
		"", "\x02\x04\x05\xb4", "\x02\x04\x05\xb4\x01\x03\x03\x07", "\x02\x04\x05\x98\x04\x02\x01\x03\x03\x00\x00\x00",
	}
	const us, ms = time.Microsecond, time.Millisecond
	pauses := []time.Duration{us, 1999, 50 * us, 1234567, 700 * ms, time.Second, 2100 * ms}
	var frames []testnet.Captured
	now := time.Duration(0)
	for port := 1024; port < 1224; port++ {
		ends := [2]string{fmt.Sprint("10.0.0.1:", port), "10.0.0.2:8443"}
		opt := []byte(options[r.IntN(len(options))])
		send := func(times, from int, sequence uint32, flags uint8) {
			s := testnet.Segment{Sequence: sequence, Flags: flags, Window: uint16(1000*from + port)}
			if flags&testnet.SYN != 0 {
				s.Options = opt
			}
			for range times {
				frames = append(frames, testnet.Captured{At: now, Frame: s.Packet(ends[from], ends[1-from]).Bytes()})
				now += pauses[r.IntN(len(pauses))]
			}
		}
		answers := r.IntN(6)
		send(r.IntN(4), 0, 99, testnet.SYN)
		send(answers, 1, 499, testnet.SYN|testnet.ACK)
		if answers > 0 && r.IntN(4) == 0 {
			send(1, r.IntN(2), 500, testnet.RST)
		} else if answers > 0 {
			send(r.IntN(3), 0, 100, testnet.ACK)
		}
	}
	sameAsTshark(t, testnet.Pcap(t, frames...), []string{"ja4t", "ja4ts", "ja4l", "ja4ls"}, handshakeValues)
}

// sameAsTshark fails if other fingerprints are told of a capture than tshark's dissection makes.
func sameAsTshark(t *testing.T, capture []byte, methods []string, evaluate func(t *testing.T, file string) testja4.Values) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "made.pcap")
	if err := os.WriteFile(file, capture, 0o600); err != nil {
		t.Fatal(err)
	}
	want, got := evaluate(t, file), identified(t, file)
	for _, method := range methods {
		if len(want[method]) == 0 {
			t.Errorf("tshark finds no %s", method)
		}
		for value := range want[method] {
			if !got[method][value] {
				t.Errorf("%s %s is missing", method, value)
			}
		}
		for value := range got[method] {
			if !want[method][value] {
				t.Errorf("%s %s is none", method, value)
			}
		}
	}
}

// handshaking is what the packets of a TCP stream make up for JA4T, JA4TS, JA4L and JA4LS.
type handshaking struct {
	ja4t, ja4ts string
	syn, synack int64 // microseconds
	delays      []string
	last        time.Duration // SYN-ACK
	ttl         [2]string
	finished    bool
}

func handshakeValues(t *testing.T, file string) testja4.Values {
	t.Helper()
	values, streams := testja4.Values{}, map[string]*handshaking{}
	fields := []string{
		"tcp.stream", "frame.time_relative", "tcp.flags", "tcp.srcport", "ip.ttl", "tcp.window_size_value", "tcp.option_kind",
		"tcp.options.mss_val", "tcp.options.wscale.shift",
	}
	for _, f := range testnet.Dissect(t, file, fields...) {
		at, err := time.ParseDuration(f[1][0] + "s")
		if err != nil {
			t.Fatal(err)
		}
		form := fmt.Sprintf("%s_%s_%s_%s", f[5][0], orZeros(strings.Join(f[6], "-")), orZeros(f[7]...), orZeros(f[8]...))
		o := streams[f[0][0]]
		if o == nil {
			o = new(handshaking)
			streams[f[0][0]] = o
		}
		o.packet(values, f[2][0], f[3][0] == "8443", at, f[4][0], form)
	}
	for _, o := range streams {
		if o.ja4ts != "" {
			values.Add("ja4ts", strings.TrimSuffix(o.ja4ts+"_"+strings.Join(o.delays, "-"), "_"))
		}
	}
	return values
}

// orZeros returns the one value of a field, or 00 if there is none, or it is 0.
func orZeros(values ...string) string {
	if len(values) == 0 || values[0] == "" || values[0] == "0" {
		return "00"
	}
	return values[0]
}

// packet notes a packet, by its flags. The capture began at a whole microsecond.
func (o *handshaking) packet(values testja4.Values, flags string, server bool, at time.Duration, ttl, form string) {
	seconds := func() string { return strconv.Itoa(int((at - o.last).Round(time.Second) / time.Second)) }
	us := at.Microseconds() + 1
	switch {
	case flags == "0x0002" && o.ja4t == "":
		o.ja4t, o.syn, o.ttl[0] = form, us, ttl
		values.Add("ja4t", form)
	case flags == "0x0012":
		if o.ja4ts == "" {
			o.ja4ts, o.synack, o.ttl[1] = form, us, ttl
		} else {
			o.delays = append(o.delays, seconds())
		}
		o.last = at
	case flags == "0x0004" && server && len(o.delays) > 0:
		o.delays = append(o.delays, "R"+seconds())
	case flags == "0x0010" && o.syn > 0 && o.synack > 0 && !o.finished:
		o.finished = true
		values.Add("ja4l", fmt.Sprintf("%d_%s", (us-o.synack)/2, o.ttl[0]))
		values.Add("ja4ls", fmt.Sprintf("%d_%s", (o.synack-o.syn)/2, o.ttl[1]))
	}
}
