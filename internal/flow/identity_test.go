package flow

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// wireIdentity is the reference of what an event says of who is talking, in this order.
type wireIdentity struct {
	JA4     string   `json:"ja4,omitempty"`
	JA4Raw  string   `json:"ja4_r,omitempty"`
	JA4S    string   `json:"ja4s,omitempty"`
	JA4SRaw string   `json:"ja4s_r,omitempty"`
	JA4H    []string `json:"ja4h,omitempty"`
	JA4HRaw []string `json:"ja4h_r,omitempty"`
	JA4X    []string `json:"ja4x,omitempty"`
	JA4XRaw []string `json:"ja4x_r,omitempty"`
	JA4T    string   `json:"ja4t,omitempty"`
	JA4TS   string   `json:"ja4ts,omitempty"`
	JA4L    string   `json:"ja4l,omitempty"`
	JA4LS   string   `json:"ja4ls,omitempty"`
	JA4SSH  []string `json:"ja4ssh,omitempty"`
	JA4D    []string `json:"ja4d,omitempty"`
	JA4D6   []string `json:"ja4d6,omitempty"`

	ServerName string `json:"tls_server_name,omitempty"`
	ALPN       string `json:"alpn,omitempty"`
	TLSVersion string `json:"tls_version,omitempty"`

	App        string `json:"app,omitempty"`
	KnownBad   bool   `json:"known_bad,omitempty"`
	New        bool   `json:"new_fingerprint,omitempty"`
	MSS        uint16 `json:"mss,omitempty"`
	Tunnel     string `json:"tunnel,omitempty"`
	SSHSession string `json:"ssh_session,omitempty"`

	HandshakeRTT float64  `json:"handshake_rtt,omitempty"`
	Anomalies    []string `json:"anomalies,omitempty"`
}

func newWireIdentity(i *Identity) wireIdentity {
	latest := func(m Method) string {
		if values := i.Fingerprints[m]; len(values) > 0 {
			return values[len(values)-1]
		}
		return ""
	}
	return wireIdentity{
		JA4: latest(JA4), JA4Raw: latest(JA4Raw), JA4S: latest(JA4S), JA4SRaw: latest(JA4SRaw),
		JA4H: i.Fingerprints[JA4H], JA4HRaw: i.Fingerprints[JA4HRaw], JA4X: i.Fingerprints[JA4X], JA4XRaw: i.Fingerprints[JA4XRaw],
		JA4T: latest(JA4T), JA4TS: latest(JA4TS), JA4L: latest(JA4L), JA4LS: latest(JA4LS),
		JA4SSH: i.Fingerprints[JA4SSH], JA4D: i.Fingerprints[JA4D], JA4D6: i.Fingerprints[JA4D6],
		ServerName: i.ServerName, ALPN: i.ALPN, TLSVersion: i.TLSVersion,
		App: i.App, KnownBad: i.KnownBad, New: i.New, MSS: i.MSS, Tunnel: i.Tunnel, SSHSession: i.SSHSession,
		HandshakeRTT: float64(i.HandshakeRTT/time.Microsecond) / 1e6, Anomalies: i.Anomalies,
	}
}

// fullIdentity has two fingerprints of each method, and a value for everything else.
func fullIdentity() *Identity {
	i := &Identity{
		ServerName: "www.example", ALPN: "h2", TLSVersion: "1.3", App: "a \"b\"", KnownBad: true, New: true, MSS: 1460,
		Tunnel: "possible GRE", SSHSession: "Unknown", HandshakeRTT: 1234567 * time.Nanosecond, Anomalies: []string{"one", "two\n"},
	}
	for m := range i.Fingerprints {
		i.Fingerprints[m] = []string{Method(m).String() + "_first", Method(m).String() + "_second"}
	}
	return i
}

func TestIdentityJSON(t *testing.T) {
	e := tcpEvent()
	e.Identity = fullIdentity()
	e.Reverse = &Counts{Packets: 1}
	checkAgainstEncodingJSON(t, &e)
}

// TestMethods holds the names, the raw forms next to what they are of, and which are arrays.
func TestMethods(t *testing.T) {
	for _, m := range Methods() {
		name := m.String()
		if found, ok := MethodNamed(name); !ok || found != m {
			t.Errorf("%s is named %v, %t", name, found, ok)
		}
		hashed, isRaw := strings.CutSuffix(name, "_r")
		if m.Hashed().String() != hashed {
			t.Errorf("%s is the raw form of %s", name, m.Hashed())
		}
		raw, ok := m.Raw()
		_, want := MethodNamed(name + "_r")
		if ok != want || ok && raw.String() != name+"_r" {
			t.Errorf("the raw form of %s is %s, %t", name, raw, ok)
		}
		if several := slices.Contains([]string{"ja4h", "ja4x", "ja4ssh", "ja4d", "ja4d6"}, hashed); m.Several() != several {
			t.Errorf("%s: several %t", name, m.Several())
		}
		if isRaw && ok {
			t.Errorf("the raw form %s has one itself", name)
		}
	}
	if m, ok := MethodNamed("unknown"); ok || methods.String() != "unknown" {
		t.Errorf("unknown is %v", m)
	}
}
