package testbrain

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"weir/internal/flow"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// event is a FlowEvent as weir writes it.
func event(sequence int) []byte {
	end := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	e := flow.Event{
		ID:           flow.EventID{Instance: 7, Sequence: uint64(sequence)},
		Src:          netip.MustParseAddrPort("10.0.0.5:51000"),
		Dst:          netip.MustParseAddrPort("93.184.216.34:443"),
		Protocol:     6,
		Interface:    "eth0",
		Hostname:     "node",
		Start:        end.Add(-2 * time.Second),
		End:          end,
		Counts:       flow.Counts{Packets: 10, Bytes: 1000, TCPFlags: 0x1b},
		Initiator:    flow.OpenedBySrc,
		SamplingRate: 1,
		Reverse:      &flow.Counts{Packets: 4, Bytes: 400, TCPFlags: 0x12},
		Identity:     identity(),
	}
	return e.AppendJSON(nil)
}

// identity has a fingerprint of each method that is not a raw form, named as the method is.
func identity() *flow.Identity {
	i := &flow.Identity{
		ServerName: "example.com", ALPN: "h2", TLSVersion: "1.3", App: "curl", KnownBad: true, New: true, MSS: 1460,
		Tunnel: "possible GRE", SSHSession: "Unknown", HandshakeRTT: time.Millisecond, Anomalies: []string{"one", "two"},
	}
	for _, method := range flow.Methods() {
		if method.Hashed() == method {
			i.Fingerprints[method] = []string{method.String()}
		}
	}
	return i
}

func array(events ...[]byte) []byte {
	return slices.Concat([]byte{'['}, bytes.Join(events, []byte{','}), []byte{']'})
}

// post returns status 0 if the connection was cut.
func post(t testing.TB, b *Brain, body []byte, header ...string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.URL(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for pair := range slices.Chunk(header, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestReadsWhatWeirWrites(t *testing.T) {
	b := New(t, Options{})
	if status, answer := post(t, b, event(1)); status != http.StatusOK {
		t.Fatalf("status %d: %s", status, answer)
	}
	b.WaitFor(t, 1, time.Second)
	e := b.Events()[0]
	if e.FlowID != "10.0.0.5:51000-93.184.216.34:443-TCP" || e.SrcIP != "10.0.0.5" || e.SrcPort != "51000" ||
		e.DstIP != "93.184.216.34" || e.DstPort != "443" || e.Protocol != "TCP" || e.Interface != "eth0" ||
		e.Hostname != "node" || e.Direction != "unknown" || e.FlowDuration != 2 || e.PacketCount != 10 ||
		e.ByteCount != 1000 || e.AvgPacketSize != 100 || e.Timestamp.Sub(e.StartTime) != 2*time.Second {
		t.Errorf("the Brain's fields: %+v", e)
	}
	if e.EventID == "" || e.EndReason != "idle" || e.TCPFlags != 0x1b || e.Initiator == nil || !*e.Initiator ||
		e.CommunityID == "" || e.SamplingRate != 1 || *e.ReversePacketCount != 4 || *e.ReverseByteCount != 400 ||
		*e.ReverseTCPFlags != 0x12 {
		t.Errorf("weir's own fields: %+v", e)
	}
	if want := (Identity{
		JA4: "ja4", JA4S: "ja4s", JA4T: "ja4t", JA4TS: "ja4ts", JA4L: "ja4l", JA4LS: "ja4ls", JA4H: []string{"ja4h"},
		JA4X: []string{"ja4x"}, JA4SSH: []string{"ja4ssh"}, JA4D: []string{"ja4d"}, JA4D6: []string{"ja4d6"},
		TLSServerName: "example.com", ALPN: "h2", TLSVersion: "1.3", App: "curl", KnownBad: true, NewFingerprint: true, MSS: 1460,
		Tunnel: "possible GRE", SSHSession: "Unknown", HandshakeRTT: 0.001, Anomalies: []string{"one", "two"},
	}); !reflect.DeepEqual(e.Identity, want) {
		t.Errorf("who is talking: %+v, want %+v", e.Identity, want)
	}
}

func TestFormats(t *testing.T) {
	one, two := event(1), event(2)
	lines := slices.Concat(one, []byte("\n"), two, []byte("\n"))
	for name, test := range map[string]struct {
		single      bool
		contentType string
		body        []byte
		want        int // status
		events      int
	}{
		"one":                       {true, "application/json", one, 200, 1},
		"one, also arrays":          {false, "application/json", one, 200, 1},
		"array":                     {false, "application/json; charset=utf-8", array(one, two), 200, 2},
		"array refused":             {true, "application/json", array(one), 422, 0},
		"lines":                     {false, ndjson, lines, 200, 2},
		"lines refused":             {true, ndjson, lines, 422, 0},
		"lines as JSON":             {false, "application/json", lines, 422, 0},
		"last line not ended":       {false, ndjson, lines[:len(lines)-1], 422, 0},
		"no line":                   {false, ndjson, nil, 422, 0},
		"array in lines":            {false, ndjson, append(array(one, two), '\n'), 422, 0},
		"cut off":                   {false, "application/json", one[:len(one)-1], 422, 0},
		"not UTF-8":                 {false, "application/json", bytes.Replace(one, []byte("node"), []byte("no\xff"), 1), 422, 0},
		"good and bad":              {false, "application/json", array(one, []byte("{}")), 422, 0},
		"content type not declared": {false, "text/plain", one, 415, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(t, Options{Single: test.single})
			status, answer := post(t, b, test.body, "Content-Type", test.contentType)
			if status != test.want || b.Received() != test.events {
				t.Errorf("status %d, %d events; want %d, %d; answer %s", status, b.Received(), test.want, test.events, answer)
			}
			if r := b.Requests()[0]; r.Status != test.want || r.Events != test.events || (r.Detail == "") != (test.want == 200) {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

func TestStrictFields(t *testing.T) {
	b := New(t, Options{})
	for name, test := range map[string]struct {
		value any // nil leaves the field out
		fault string
	}{
		"flow_id":       {nil, "missing"},
		"src_port":      {51000, "string_type"},
		"dst_port":      {json.RawMessage("null"), "string_type"},
		"packet_count":  {"10", "int_type"},
		"byte_count":    {1.5, "int_type"},
		"flow_duration": {"2", "float_type"},
		"timestamp":     {"yesterday", "datetime_type"},
		"start_time":    {1700000000, "datetime_type"},
		"tcp_flags":     {65536, "int_type"},
		"initiator":     {"src", "bool_type"},
		"ja4ssh":        {"c36s36_c51s80_c69s0", "list_type"},
		"anomalies":     {[]any{"one", 2}, "list_type"},
		"known_bad":     {1, "bool_type"},
	} {
		var object map[string]any
		if err := json.Unmarshal(event(1), &object); err != nil {
			t.Fatal(err)
		}
		changed := maps.Clone(object)
		changed[strings.ToUpper(name)] = object[name] // another field, without a meaning
		if changed[name] = test.value; test.value == nil {
			delete(changed, name)
		}
		body, err := json.Marshal([]any{object, changed})
		if err != nil {
			t.Fatal(err)
		}
		status, answer := post(t, b, body)
		want := fmt.Sprintf(`{"detail":[{"type":%q,"loc":["body",1,%q],`, test.fault, name)
		if status != http.StatusUnprocessableEntity || !strings.HasPrefix(answer, want) {
			t.Errorf("%s: status %d, %s; want 422, %s…", name, status, answer, want)
		}
	}
	if b.Received() != 0 {
		t.Errorf("%d events taken out of refused requests", b.Received())
	}
}

func TestCompression(t *testing.T) {
	b := New(t, Options{})
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(array(event(1), event(2))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		encoding string
		body     []byte
		want     int
	}{
		{"gzip", zipped.Bytes(), 200},
		{"zstd", encoder.EncodeAll(array(event(3)), nil), 200},
		{"gzip", event(4), 400},
		{"zstd", event(5), 400},
		{"br", event(6), 415},
	} {
		if status, answer := post(t, b, test.body, "Content-Encoding", test.encoding); status != test.want {
			t.Errorf("%s: status %d, want %d: %s", test.encoding, status, test.want, answer)
		}
	}
	if b.Received() != 3 {
		t.Errorf("received %d events, want 3", b.Received())
	}
}

func TestFaults(t *testing.T) {
	b := New(t, Options{Answer: func(r *Request) *Answer {
		switch r.Number {
		case 1:
			return &Answer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}, Body: "busy"}
		case 2:
			return &Answer{Cut: true}
		case 3:
			return &Answer{Cut: true, Store: true}
		}
		return nil
	}})
	for i, want := range []int{503, 0, 0, 200, 200} {
		if status, answer := post(t, b, event(min(i, 3)), "Idempotency-Key", "k"); status != want {
			t.Errorf("request %d: status %d, want %d: %s", i+1, status, want, answer)
		}
	}
	if events := b.Events(); len(events) != 2 || !strings.HasSuffix(events[0].EventID, "2") {
		t.Errorf("%d events: %+v", len(events), events)
	}
	if d := b.Duplicates(); len(d) != 1 || !strings.HasSuffix(d[0].EventID, "3") {
		t.Errorf("%d duplicates: %+v", len(d), d)
	}
	r := b.Requests()
	if len(r) != 5 || b.Connections() != 5 {
		t.Fatalf("%d requests over %d connections, want 5 over 5", len(r), b.Connections())
	}
	if r[3].Body != r[4].Body || r[2].Body == r[3].Body || r[4].Header.Get("Idempotency-Key") != "k" {
		t.Error("requests are not told apart")
	}
}

func TestStopAndStart(t *testing.T) {
	b := New(t, Options{Answer: func(r *Request) *Answer {
		if r.Number == 2 {
			return &Answer{Delay: time.Hour}
		}
		return nil
	}})
	url := b.URL()
	if status, _ := post(t, b, event(1)); status != 200 {
		t.Fatalf("status %d", status)
	}
	hanging := make(chan int)
	go func() {
		status, _ := post(t, b, event(2))
		hanging <- status
	}()
	for deadline := time.Now().Add(5 * time.Second); len(b.Requests()) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second request did not come")
		}
	}
	b.Stop(t)
	if status := <-hanging; status != 0 {
		t.Errorf("status %d of a Brain that stopped", status)
	}
	if status, _ := post(t, b, event(3)); status != 0 {
		t.Errorf("status %d of a stopped Brain", status)
	}
	b.Start(t)
	if status, _ := post(t, b, event(4)); status != 200 || b.URL() != url || b.Received() != 2 {
		t.Errorf("after the start: status %d, URL %s, %d events", status, b.URL(), b.Received())
	}
}

func TestOnEvent(t *testing.T) {
	bytesOf := map[string]int64{}
	b := New(t, Options{OnEvent: func(e *Event) { bytesOf[e.FlowID] += e.ByteCount }})
	post(t, b, array(event(1), event(2), event(1)))
	b.WaitFor(t, 2, time.Second)
	if got := bytesOf["10.0.0.5:51000-93.184.216.34:443-TCP"]; got != 2000 || len(b.Events()) != 0 || len(b.Duplicates()) != 1 {
		t.Errorf("%d bytes, %d events, %d duplicates", got, len(b.Events()), len(b.Duplicates()))
	}
}
