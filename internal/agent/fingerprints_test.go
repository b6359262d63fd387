package agent

import (
	"testing"

	"weir/internal/datapath"
	"weir/internal/flow"
)

func TestSamplesOf(t *testing.T) {
	const tcp, hellos = datapath.SampleHandshakes, datapath.SampleHandshakes | datapath.SampleTLS | datapath.SampleQUIC
	for name, row := range map[string]struct {
		methods []flow.Method
		want    datapath.Samples
	}{
		"none":         {nil, 0},
		"ja4":          {[]flow.Method{flow.JA4}, hellos},
		"a raw form":   {[]flow.Method{flow.JA4Raw}, hellos},
		"certificates": {[]flow.Method{flow.JA4X}, hellos | datapath.SampleCertificates},
		"requests":     {[]flow.Method{flow.JA4H}, tcp | datapath.SampleHTTP},
		"handshakes":   {[]flow.Method{flow.JA4T, flow.JA4TS}, tcp},
		"latency":      {[]flow.Method{flow.JA4L}, tcp | datapath.SampleQUIC | datapath.SampleQUICTimes},
		"SSH and DHCP": {[]flow.Method{flow.JA4SSH, flow.JA4D6}, tcp | datapath.SampleSSH | datapath.SampleDHCP},
	} {
		if got := samplesOf(row.methods); got != row.want {
			t.Errorf("%s: %b, want %b", name, got, row.want)
		}
	}
}
