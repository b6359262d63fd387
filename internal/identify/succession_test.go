package identify

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/internal/flow"
)

// say gives the streams of a connection that began at some sequence numbers.
func (f *fixture) say(origin uint32, opener flow.Initiator, streams [2][]byte) {
	for end, stream := range streams {
		for _, s := range piecesOf(uint8(end), stream, 700) {
			s.Key, s.TimeNs, s.Origin, s.Opener = keyTo(443), f.nowNs, origin+uint32(end), opener
			f.Sample(&s)
		}
	}
}

// othersHellos are not goHellos.
func othersHellos(t testing.TB) [2][]byte {
	t.Helper()
	return handshake(t, &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{MaxVersion: tls.VersionTLS12})
}

// TestRecordOfTheFormer comes when the connection that has its ports has said hello already.
func TestRecordOfTheFormer(t *testing.T) {
	hellos, others := goHellos(t), othersHellos(t)
	firstJA4, _ := ja4Of(t, hellos)
	secondJA4, _ := ja4Of(t, others)
	f := newFixture(t, files{learn: time.Hour, bad: "ja4 " + firstJA4 + " it is\n"}, flow.JA4, flow.JA4T)
	f.say(1000, flow.InitiatorEnd0, hellos)
	first := f.tunnelled(keyTo(443))
	f.nowNs += uint64(time.Second)
	f.say(70000, flow.InitiatorEnd0, others)

	for _, reason := range []flow.EndReason{flow.EndActive, flow.EndFIN} {
		first.EndReason = reason
		got := f.Describe(first)
		if !slices.Equal(got.Fingerprints[flow.JA4], []string{firstJA4}) || got.ALPN != "h2" || got.MSS != 1380 || !got.KnownBad ||
			len(got.Anomalies) != 1 {
			t.Errorf("the first: %+v", got)
		}
		first.Handshake = nil
	}
	got := f.Describe(f.ended(keyTo(443)))
	if !slices.Equal(got.Fingerprints[flow.JA4], []string{secondJA4}) || got.ALPN != "" || got.MSS != 1460 ||
		len(got.Fingerprints[flow.JA4T]) != 1 || got.KnownBad || got.Anomalies != nil {
		t.Errorf("the second: %+v", got)
	}
	if len(f.talks) != 0 || f.table.Count() != 0 {
		t.Errorf("%d are left", len(f.talks))
	}
}

// TestOneRecordOfThree: it tells what is odd about any of them, and shows that none of the former ones is on the way.
func TestOneRecordOfThree(t *testing.T) {
	hellos, others := goHellos(t), othersHellos(t)
	ja4, _ := ja4Of(t, hellos)
	f := newFixture(t, files{learn: time.Hour, bad: "ja4 " + ja4 + " it is\n"}, flow.JA4)
	for n, streams := range [][2][]byte{hellos, others, others} {
		f.say(uint32(1000+1000*n), flow.InitiatorEnd0, streams)
		f.nowNs += uint64(time.Second)
	}
	r := f.ended(keyTo(443))
	r.EndReason = flow.EndActive
	if got := f.Describe(r); !got.KnownBad || len(got.Anomalies) != 2 || !slices.ContainsFunc(got.Anomalies, isChange) {
		t.Errorf("%+v", got)
	}
	if talk := f.talks[f.table.Find(r.Key)]; talk == nil || talk.former != nil {
		t.Errorf("kept for the life of the connection: %+v", talk)
	}
}

// idle is the record of a connection of which nothing came for long.
func (f *fixture) idle() *flow.Record {
	r := f.ended(keyTo(443))
	r.EndReason = flow.EndIdle
	return r
}

// resumed is a record of a connection whose beginning is not in it.
func (f *fixture) resumed() *flow.Record {
	r := f.idle()
	r.Handshake, r.Initiator = nil, flow.InitiatorUnknown
	return r
}

// TestGoesOnAfterIdle: a TCP connection keeps who is talking when it was idle, for a while.
func TestGoesOnAfterIdle(t *testing.T) {
	ja4, _ := ja4Of(t, goHellos(t))
	for name, row := range map[string]struct {
		change func(r *flow.Record) // of the one that says idle
		after  time.Duration
		want   []string
	}{
		"it goes on":          {func(*flow.Record) {}, 9 * time.Minute, []string{ja4}},
		"after too long":      {func(*flow.Record) {}, 12 * time.Minute, nil},
		"it ended":            {func(r *flow.Record) { r.EndReason = flow.EndRST }, 0, nil},
		"of packets one in 2": {func(r *flow.Record) { r.SamplingRate = 2 }, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, files{learn: time.Hour}, flow.JA4)
			f.say(1000, flow.InitiatorEnd0, goHellos(t))
			r := f.idle()
			row.change(r)
			f.Describe(r)
			f.nowNs += uint64(row.after)
			f.Tidy()
			var got []string
			if identity := f.Describe(f.resumed()); identity != nil {
				got = identity.Fingerprints[flow.JA4]
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("JA4 %q, want %q", got, row.want)
			}
			if n := testutil.ToFloat64(f.metrics.evicted); n != 0 {
				t.Errorf("%v counted as evicted", n)
			}
		})
	}
}

// TestOnlyTCPGoesOn: another connection of UDP is not known by how it begins, and one that nobody answered is not worth to be known.
func TestOnlyTCPGoesOn(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4)
	quic := datagram(t, "rfc9001-client.hex", 0)
	quic.Key = keyTo(443)
	quic.Key.Protocol = 17
	f.Sample(&quic)
	r := f.idle()
	r.Key = quic.Key
	f.Describe(r)

	f.say(1000, flow.InitiatorEnd0, [2][]byte{goHellos(t)[0]})
	r = f.idle()
	r.Halves[1] = flow.Half{Packets: 2, Bytes: 120}
	f.Describe(r)
	if len(f.talks) != 0 {
		t.Errorf("%d are left", len(f.talks))
	}
}

// TestOpenedAfterIdle: a SYN begins another connection, of which nothing is known from the one that was idle. It is told by the record,
// or by the samples before that.
func TestOpenedAfterIdle(t *testing.T) {
	hellos, others := goHellos(t), othersHellos(t)
	secondJA4, _ := ja4Of(t, others)
	for name, streams := range map[string][2][]byte{"no hello": {}, "another hello": {others[0]}} {
		f := newFixture(t, files{}, flow.JA4)
		f.say(1000, flow.InitiatorEnd0, hellos)
		if got := f.Describe(f.idle()); !got.New || got.Anomalies == nil {
			t.Errorf("the first: %+v", got)
		}
		f.say(70000, flow.InitiatorEnd0, streams)
		r := f.ended(keyTo(443))
		r.Halves[1] = flow.Half{Packets: 2, Bytes: 120} // nobody answers
		got := f.Describe(r)
		if streams[0] == nil && got.ServerName != "" || got.New || got.KnownBad || slices.ContainsFunc(got.Anomalies, isChange) {
			t.Errorf("%s: %+v", name, got)
		}
		if streams[0] != nil && !slices.Equal(got.Fingerprints[flow.JA4], []string{secondJA4}) {
			t.Errorf("%s: JA4 %q", name, got.Fingerprints[flow.JA4])
		}
	}
}

func isChange(anomaly string) bool { return strings.Contains(anomaly, "changed") }

// TestRequestAfterIdle: what a connection that goes on sends is read from where the kernel side saw it again.
func TestRequestAfterIdle(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4H, flow.JA4T)
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	f.say(1000, flow.InitiatorEnd0, [2][]byte{[]byte(request)})
	f.Describe(f.idle())
	f.say(5000, flow.InitiatorUnknown, [2][]byte{[]byte(strings.Replace(request, "GET", "PUT", 1))})
	got := f.Describe(f.resumed())
	ja4h, ja4t := got.Fingerprints[flow.JA4H], got.Fingerprints[flow.JA4T]
	if len(ja4h) != 1 || !strings.HasPrefix(ja4h[0], "pu11") || len(ja4t) != 1 {
		t.Errorf("JA4H %q, JA4T %q", ja4h, ja4t)
	}
}

// TestQUICAgain: a client's packet with a connection ID of its own making begins another connection, what repeats one does not.
func TestQUICAgain(t *testing.T) {
	client, server := datagram(t, "rfc9001-client.hex", 0), datagram(t, "rfc9001-server.hex", 1)
	another := datagram(t, "another-client.hex", 0)
	forged := another
	forged.Data = slices.Clone(another.Data)
	forged.Data[100]++
	for name, row := range map[string]struct {
		samples []flow.Sample
		want    string
	}{
		"it begins anew":             {[]flow.Sample{client, server, another}, "example.net"},
		"before it was answered":     {[]flow.Sample{client, another}, "example.net"},
		"it repeats":                 {[]flow.Sample{client, server, client}, "example.com"},
		"something forged":           {[]flow.Sample{client, server, forged}, "example.com"},
		"the first answered by none": {[]flow.Sample{client, another, another}, "example.net"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, files{learn: time.Hour}, flow.JA4, flow.JA4S)
			for _, s := range row.samples {
				s.Key = keyTo(443)
				s.Key.Protocol = 17
				f.Sample(&s)
			}
			r := f.ended(keyTo(443))
			r.Key.Protocol, r.Handshake = 17, nil
			got := f.Describe(r)
			if got.ServerName != row.want || len(got.Fingerprints[flow.JA4]) == 0 {
				t.Errorf("%+v, want %s", got, row.want)
			}
			if answered := row.want == "example.com"; (got.Fingerprints[flow.JA4S] != nil) != answered {
				t.Errorf("JA4S %q", got.Fingerprints[flow.JA4S])
			}
		})
	}
}

// TestClientOfQUIC is who can have made the first packet, whoever was seen first.
func TestClientOfQUIC(t *testing.T) {
	c := NewConversation(methodsOn("ja4"))
	client := datagram(t, "rfc9001-client.hex", 1)
	client.Opener = flow.InitiatorEnd0
	feed(t, c, client)
	k := flow.Key{Ends: [2]netip.AddrPort{higher, lower}}
	if c.client(k) != 1 {
		t.Error("the client is end 0")
	}
}
