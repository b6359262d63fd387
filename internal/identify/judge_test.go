package identify

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/internal/flow"
)

func TestKnown(t *testing.T) {
	hellos := goHellos(t)
	ja4, ja4s := ja4Of(t, hellos)
	ja4t := "64240_1-2_1460_00"
	for name, row := range map[string]struct {
		files
		app, anomaly string
		isBad, isNew bool
	}{
		"nothing":              {files: files{learn: time.Hour}},
		"by its JA4":           {files: files{database: "Go," + ja4 + ",,\n", learn: time.Hour}, app: "Go"},
		"by both":              {files: files{database: "Go," + ja4 + ",,\nSliver," + ja4 + "," + ja4s + ",\n", learn: time.Hour}, app: "Sliver"},
		"by another JA4S":      {files: files{database: "Go," + ja4 + ",,\nSliver," + ja4 + ",t130200_1302_a56c5b993250,\n", learn: time.Hour}, app: "Go"},
		"the system goes last": {files: files{database: "Go," + ja4 + ",,\nLinux,,," + ja4t + "\n", learn: time.Hour}, app: "Go"},
		"the system":           {files: files{database: "Linux,,," + ja4t + "\n", learn: time.Hour}, app: "Linux"},
		"bad":                  {files: files{bad: "ja4 " + ja4 + " it is\n", learn: time.Hour}, isBad: true, anomaly: "known-bad fingerprint: it is"},
		"bad by both": {
			files: files{bad: "ja4+ja4s " + ja4 + "+" + ja4s + " it is\n", learn: time.Hour}, isBad: true, anomaly: "known-bad fingerprint: it is",
		},
		"new": {isNew: true, anomaly: "fingerprint first seen on this network: ja4 " + ja4},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, row.files, flow.JA4, flow.JA4S, flow.JA4T)
			f.send(keyTo(443), hellos, 1<<16)
			got := f.Describe(f.ended(keyTo(443)))
			if got.App != row.app || got.KnownBad != row.isBad || got.New != row.isNew {
				t.Errorf("app %q, bad %t, new %t, want %q, %t, %t", got.App, got.KnownBad, got.New, row.app, row.isBad, row.isNew)
			}
			if row.anomaly == "" && got.Anomalies != nil || row.anomaly != "" && !slices.Equal(got.Anomalies, []string{row.anomaly}) {
				t.Errorf("anomalies %q, want %q", got.Anomalies, row.anomaly)
			}
			f.send(keyTo(443), hellos, 1<<16)
			if got := f.Describe(f.ended(keyTo(443))); got.New {
				t.Error("it is new again")
			}
		})
	}
}

// TestNewIsAnswered: what nobody answers is not remembered; else anybody could fill the memory.
func TestNewIsAnswered(t *testing.T) {
	f := newFixture(t, files{}, flow.JA4, flow.JA4T)
	hellos := goHellos(t)
	reset := f.ended(keyTo(443))
	reset.Halves[1] = flow.Half{Packets: 1, Bytes: 60}
	for range 2 {
		f.send(keyTo(443), [2][]byte{hellos[0]}, 1<<16)
		if got := f.Describe(reset); got.New || len(got.Fingerprints[flow.JA4]) != 1 || len(got.Fingerprints[flow.JA4T]) != 1 {
			t.Errorf("unanswered: %+v", got)
		}
	}
	f.send(keyTo(443), [2][]byte{hellos[0]}, 1<<16) // the counters tell that there was an answer,
	if got := f.Describe(f.ended(keyTo(443))); !got.New {
		t.Error("answered, it is not new")
	}
	f.send(keyTo(443), othersHellos(t), 1<<16) // or a ServerHello does
	if got := f.Describe(reset); !got.New {
		t.Error("answered with a ServerHello, it is not new")
	}
}

// TestAnsweredLater: it is new as soon as it is answered.
func TestAnsweredLater(t *testing.T) {
	f := newFixture(t, files{}, flow.JA4)
	f.send(keyTo(443), [2][]byte{goHellos(t)[0]}, 1<<16)
	r := f.ended(keyTo(443))
	r.EndReason, r.Halves[1] = flow.EndActive, flow.Half{}
	for _, answered := range []bool{false, true} {
		if got := f.Describe(r); got.New != answered {
			t.Errorf("new: %t, answered: %t", got.New, answered)
		}
		r.Halves[1] = r.Halves[0]
	}
}

// TestNewDHCP: it is answered by broadcast, in another flow.
func TestNewDHCP(t *testing.T) {
	f := newFixture(t, files{}, flow.JA4D)
	k := keyTo(67)
	k.Protocol = 17
	f.Sample(&flow.Sample{
		Key: k, Kind: flow.SampleDatagram, TimeNs: f.nowNs, Data: append(make([]byte, 236), "\x63\x82\x53\x63\x35\x01\x01\xff"...),
	})
	r := f.ended(k)
	r.Handshake, r.Halves[1] = nil, flow.Half{}
	if got := f.Describe(r); !got.New {
		t.Errorf("%+v", got)
	}
}

func TestManySightings(t *testing.T) {
	var c talk
	for i := range 2 * mostSightings {
		c.sight(flow.JA4H, fmt.Sprintf("ge11nn00_%012x_0_0", i/2), time.Time{})
	}
	if n := len(c.sightings); n != mostSightings {
		t.Errorf("%d wait", n)
	}
	c.sight(flow.JA4H, "ge11nn01_0_0_0", time.Time{})
	if n := len(c.sightings); n != mostSightings {
		t.Errorf("%d wait, want %d at most", n, mostSightings)
	}
}

func TestMemorable(t *testing.T) {
	for _, row := range []struct {
		method flow.Method
		value  string
		want   string
	}{
		{flow.JA4, "t13d_a_b", "t13d_a_b"},
		{flow.JA4H, "ge11cn05enus_a_b_c", "ge11cn05enus_a"},
		{flow.JA4L, "1_64", ""},
		{flow.JA4LS, "1_64", ""},
		{flow.JA4SSH, "c36s36_c51s80_c69s0", ""},
	} {
		if got, ok := memorable(row.method, row.value); got != row.want || ok != (row.want != "") {
			t.Errorf("%s %s: %q, %t, want %q", row.method, row.value, got, ok, row.want)
		}
	}
}

// tunnelled is a record of a client in WireGuard.
func (f *fixture) tunnelled(k flow.Key) *flow.Record {
	r := f.ended(k)
	r.Handshake.SYN.Options = []byte{2, 4, 1380 >> 8, 1380 & 0xff}
	return r
}

func TestAnomalies(t *testing.T) {
	hellos := goHellos(t)
	request := []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	silent := func(r *flow.Record) { r.Halves[1] = flow.Half{Packets: 3, Bytes: 200} }
	for name, row := range map[string]struct {
		port    uint16
		streams [2][]byte
		change  func(r *flow.Record)
		want    []string
	}{
		"none":               {443, hellos, func(*flow.Record) {}, nil},
		"TLS on port 80":     {80, hellos, func(*flow.Record) {}, []string{"TLS on port 80, where another protocol is expected"}},
		"HTTP on port 443":   {443, [2][]byte{request}, func(*flow.Record) {}, []string{"HTTP without TLS on port 443, where TLS is expected"}},
		"unanswered":         {443, [2][]byte{hellos[0]}, silent, []string{"TLS ClientHello without a ServerHello"}},
		"it goes on":         {443, [2][]byte{hellos[0]}, func(r *flow.Record) { silent(r); r.EndReason = flow.EndActive }, nil},
		"a sample":           {443, [2][]byte{hellos[0]}, func(r *flow.Record) { silent(r); r.SamplingRate = 2 }, nil},
		"the answer is lost": {443, [2][]byte{hellos[0]}, func(*flow.Record) {}, nil},
		"one direction":      {443, [2][]byte{hellos[0]}, func(r *flow.Record) { r.Halves[1] = flow.Half{} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, files{learn: time.Hour}, flow.JA4, flow.JA4S, flow.JA4H)
			f.send(keyTo(row.port), row.streams, 1<<16)
			r := f.ended(keyTo(row.port))
			row.change(r)
			if got := f.Describe(r); !slices.Equal(got.Anomalies, row.want) {
				t.Errorf("anomalies %q, want %q", got.Anomalies, row.want)
			}
		})
	}
}

// TestProxyUnseen: where HTTP is not sampled, what a proxy carries raises nothing.
func TestProxyUnseen(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4)
	f.send(keyTo(8080), goHellos(t), 1<<16)
	if got := f.Describe(f.ended(keyTo(8080))); got.Anomalies != nil || len(got.Fingerprints[flow.JA4]) != 1 {
		t.Errorf("%+v", got)
	}
}

// TestUnusualTunnel knows what MSS others have, by IP version.
func TestUnusualTunnel(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4)
	for range 20 {
		f.Describe(f.ended(keyTo(443)))
	}
	got := f.Describe(f.tunnelled(keyTo(443)))
	const want = "MSS 1380 as in a tunnel (possible WireGuard), where the network's is 1460"
	if got.Tunnel != "possible WireGuard" || got.MSS != 1380 || !slices.Equal(got.Anomalies, []string{want}) {
		t.Errorf("%+v", got)
	}
	k := keyTo(443)
	k.Ends[0], k.Ends[1] = netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.MustParseAddrPort("[2001:db8::2]:443")
	if got := f.Describe(f.tunnelled(k)); got.Tunnel == "" || got.Anomalies != nil {
		t.Errorf("over IPv6, of which there is no other: %+v", got)
	}
	if n := testutil.ToFloat64(f.metrics.anomalies["unusual_tunnel"]); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
}

// TestLateSYN: a SYN that comes later, which anybody can send, changes nothing of what is known.
func TestLateSYN(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4, flow.JA4T)
	r := f.ended(keyTo(443))
	r.EndReason = flow.EndActive
	want := *f.Describe(r)
	r.Handshake = &flow.Handshake{SYN: f.tunnelled(keyTo(443)).Handshake.SYN}
	if got := *f.Describe(r); !reflect.DeepEqual(got, want) || got.MSS == 0 || got.HandshakeRTT == 0 {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

// TestUnansweredSYNsHaveNoVote on what MSS is usual.
func TestUnansweredSYNsHaveNoVote(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4)
	for range 20 {
		f.Describe(f.ended(keyTo(443)))
	}
	for range 40 {
		r := f.tunnelled(keyTo(443))
		r.Handshake.ACKNs = 0
		f.Describe(r)
	}
	if got := f.usual[0].Value(); got != 1460 {
		t.Errorf("usual MSS %d", got)
	}
}
