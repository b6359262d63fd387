package testbrain

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzMembers compares how objects are taken apart with encoding/json.
func FuzzMembers(f *testing.F) {
	f.Add(event(1))
	f.Add([]byte(` { "flow_id" : "a\\\"}," , "timestamp":[{"flow_id":1},"]"], "flow\u005fid" : null, "":-1e3 } `))
	f.Add([]byte("{\n}"))
	f.Fuzz(func(t *testing.T, object []byte) {
		var want map[string]json.RawMessage
		if !utf8.Valid(object) || json.Unmarshal(object, &want) != nil || want == nil {
			parseBody(object, "application/json", false) // must not panic
			parseBody(object, ndjson, false)
			return
		}
		for i, got := range members(object) {
			if !bytes.Equal(got, want[fields[i].name]) {
				t.Errorf("%s is %s, want %s", fields[i].name, got, want[fields[i].name])
			}
		}
	})
}

// BenchmarkParseBody shows what a Brain costs per event.
func BenchmarkParseBody(b *testing.B) {
	var events [][]byte
	for i := range 500 {
		events = append(events, event(i))
	}
	body := array(events...)
	for b.Loop() {
		if _, faults := parseBody(body, "application/json", false); faults != nil {
			b.Fatal(faults)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/event")
}
