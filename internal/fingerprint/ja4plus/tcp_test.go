package ja4plus

import (
	"testing"
	"time"

	"weir/internal/fingerprint"
	"weir/internal/flow"
)

func TestJA4T(t *testing.T) {
	for name, test := range map[string]struct {
		window  uint16
		options string
		want    string
	}{
		"Windows":              {64240, "\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02", "64240_2-1-3-1-1-4_1460_8"},
		"filled up":            {65535, "\x02\x04\x05\xa0\x01\x03\x03\x06\x04\x02\x00\x00", "65535_2-1-3-4-0-0_1440_6"},
		"none":                 {1024, "", "1024_00_00_00"},
		"no window scale":      {1024, "\x02\x04\x05\xb4", "1024_2_1460_00"},
		"window scale of 0":    {8192, "\x02\x04\x05\xa0\x03\x03\x00\x00", "8192_2-3-0_1440_00"},
		"MPTCP and Fast Open":  {64240, "\x02\x04\x05\xb4\x1e\x04\x00\x81\x22\x02\x01\x01", "64240_2-30-34-1-1_1460_00"},
		"rubbish behind end":   {512, "\x02\x04\x05\xb4\x00\x00\x01\x00", "512_2-0-0_1460_00"},
		"the last value":       {512, "\x02\x04\x05\xb4\x02\x04\x01\x01", "512_2-2_257_00"},
		"wrong length":         {512, "\x02\x03\x05\x01", "512_2-1_00_00"},
		"length of 0":          {512, "\x02\x04\x05\xb4\x08\x00\x03\x03", "512_2_1460_00"},
		"length of 1":          {512, "\x02\x01\x03\x03", "512_00_00_00"},
		"longer than there is": {512, "\x01\x02\x05\x05", "512_1_00_00"},
		"no length":            {512, "\x01\x02", "512_1_00_00"},
	} {
		t.Run(name, func(t *testing.T) {
			syn := flow.Opening{TimeNs: 1, Window: test.window, Options: []byte(test.options)}
			expect(t, JA4T(syn), fingerprint.Fingerprint{Method: "ja4t", Value: test.want})
		})
	}
	expect(t, JA4T(flow.Opening{Window: 1024}), fingerprint.Fingerprint{})
}

func TestJA4TS(t *testing.T) {
	const ms = time.Millisecond
	many := make([]time.Duration, 12)
	for name, test := range map[string]struct {
		resent []time.Duration
		reset  time.Duration
		want   string
	}{
		"sent once":     {nil, 0, "62727_2_8961_00"},
		"sent again":    {[]time.Duration{1004 * ms, 2016 * ms, 4096 * ms, 8192 * ms, 16128 * ms}, 0, "62727_2_8961_00_1-2-4-8-16"},
		"rounded":       {[]time.Duration{499 * ms, 500 * ms, 1499 * ms}, 0, "62727_2_8961_00_0-1-1"},
		"at most 10":    {many, 0, "62727_2_8961_00_0-0-0-0-0-0-0-0-0-0"},
		"at the moment": {[]time.Duration{0}, 0, "62727_2_8961_00_0"},
		"given up":      {[]time.Duration{1002 * ms, 2008 * ms, 4011 * ms, 8012 * ms}, 6009 * ms, "62727_2_8961_00_1-2-4-8-R6"},
		"given up now":  {[]time.Duration{1002 * ms}, ms, "62727_2_8961_00_1-R0"},
		"refused":       {nil, ms, "62727_2_8961_00"},
	} {
		t.Run(name, func(t *testing.T) {
			synack := flow.Opening{TimeNs: 1, Window: 62727, Options: []byte("\x02\x04\x23\x01")}
			got := JA4TS(flow.Handshake{SYNACK: synack, Resent: test.resent, Reset: test.reset})
			expect(t, got, fingerprint.Fingerprint{Method: "ja4ts", Value: test.want})
		})
	}
	expect(t, JA4TS(flow.Handshake{SYN: flow.Opening{TimeNs: 1}}), fingerprint.Fingerprint{})
}

func FuzzOptions(f *testing.F) {
	f.Add([]byte("\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02\x00\x00"))
	f.Add([]byte("\x08\xff\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		costsNoMore(t, raw, func(raw []byte) fingerprint.Fingerprint {
			return JA4T(flow.Opening{TimeNs: 1, Options: raw})
		})
	})
}
