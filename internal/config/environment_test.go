package config

import (
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What errors say that a setting should be.
const (
	wantInterfaces = `auto, all, or names and globs, comma-separated, each name at most 15 bytes and without "/"`
	wantEndpoint   = `stdout, file:PATH, or an http:// or https:// URL with a host`
	wantPort       = `a port from 1 to 65535`
	wantSeconds    = `seconds, or a duration such as 1m30s, from `
	wantSize       = `bytes, or a size such as 64MiB or 1GB, from 1MiB to 64GiB`
	wantListen     = `HOST:PORT with a port from 0 to 65535`
	wantHostname   = `a host name of at most 253 letters, digits, dots, hyphens and underscores`
)

// rejected is a value that a setting refuses.
type rejected struct{ name, text, want string }

var rejectedFlows = []rejected{
	{"AGENT_INTERFACE", "sixteen-bytes-xx", wantInterfaces},
	{"AGENT_INTERFACE", "eth0,", wantInterfaces},
	{"AGENT_INTERFACE", "eth0,,eth1", wantInterfaces},
	{"AGENT_INTERFACE", "auto,eth0", wantInterfaces},
	{"AGENT_INTERFACE", "eth[", wantInterfaces},
	{"AGENT_INTERFACE", "../eth0", wantInterfaces},
	{"AGENT_INTERFACE", "..", wantInterfaces},
	{"AGENT_INTERFACE", "eth0:1", wantInterfaces},
	{"AGENT_INTERFACE", "eth0 eth1", wantInterfaces},
	{"AGENT_INGRESS_HOOK", "generic", "auto, xdp, xdp-generic or tc"},
	{"AGENT_FLOW_SHAPE", "both", "flow or connection"},
	{"AGENT_MAX_FLOWS", "1023", "a whole number from 1024 to 16777216"},
	{"AGENT_MAX_FLOWS", "16777217", "a whole number from 1024 to 16777216"},
	{"AGENT_MAX_FLOWS", "18446744073709551616", "a whole number from 1024 to 16777216"},
	{"AGENT_TCP_IDLE_TIMEOUT", "0", wantSeconds + "100ms to 24h"},
	{"AGENT_TCP_IDLE_TIMEOUT", "99ms", wantSeconds + "100ms to 24h"},
	{"AGENT_UDP_IDLE_TIMEOUT", "-30s", wantSeconds + "100ms to 24h"},
	{"AGENT_UDP_IDLE_TIMEOUT", "soon", wantSeconds + "100ms to 24h"},
	{"AGENT_ACTIVE_TIMEOUT", "86400.001", wantSeconds + "100ms to 24h"},
	{"AGENT_ACTIVE_TIMEOUT", "99999999999999999999", wantSeconds + "100ms to 24h"},
	{"AGENT_CLOSE_LINGER", "-1", wantSeconds + "0s to 1m"},
	{"AGENT_CLOSE_LINGER", "61", wantSeconds + "0s to 1m"},
}

var rejectedDelivery = []rejected{
	{"AGENT_ENDPOINT_URL", "brain:8000/ingest", wantEndpoint},
	{"AGENT_ENDPOINT_URL", "ftp://brain/ingest", wantEndpoint},
	{"AGENT_ENDPOINT_URL", "http://", wantEndpoint},
	{"AGENT_ENDPOINT_URL", "http://:8000/ingest", wantEndpoint},
	{"AGENT_ENDPOINT_URL", "https://brain:65536/", wantPort},
	{"AGENT_ENDPOINT_URL", "https://brain:0/", wantPort},
	{"AGENT_ENDPOINT_URL", "https://brain:http/", wantPort},
	{"AGENT_ENDPOINT_URL", "file:", wantEndpoint},
	{"AGENT_ENDPOINT_URL", "file://", wantEndpoint},
	{"AGENT_ENDPOINT_URL", "file://host/flows", wantEndpoint},
	{"AGENT_BATCH_SIZE", "many", "a whole number from 1 to 100000"},
	{"AGENT_BATCH_SIZE", "0", "a whole number from 1 to 100000"},
	{"AGENT_BATCH_SIZE", "100001", "a whole number from 1 to 100000"},
	{"AGENT_BATCH_SIZE", "1.5", "a whole number from 1 to 100000"},
	{"AGENT_BATCH_SIZE", "0x10", "a whole number from 1 to 100000"},
	{"AGENT_SEND_INTERVAL", "9ms", wantSeconds + "10ms to 1h"},
	{"AGENT_SEND_INTERVAL", "2h", wantSeconds + "10ms to 1h"},
	{"AGENT_BATCH_FORMAT", "json", "auto, array, ndjson or single"},
	{"AGENT_COMPRESSION", "lz4", "none, gzip or zstd"},
	{"AGENT_QUEUE_MAX_BYTES", "1000000", wantSize},
	{"AGENT_QUEUE_MAX_BYTES", "65GiB", wantSize},
	{"AGENT_QUEUE_MAX_BYTES", "64Mi", wantSize},
	{"AGENT_STOP_TIMEOUT", "0s", wantSeconds + "100ms to 10m"},
	{"AGENT_STOP_TIMEOUT", "11m", wantSeconds + "100ms to 10m"},
	{"NODE_NAME", "node 1", wantHostname},
	{"NODE_NAME", "-node", wantHostname},
	{"NODE_NAME", "\u212anode", wantHostname}, // the Kelvin sign, whose lower case is "k"
	{"AGENT_LISTEN", "9478", wantListen},
	{"AGENT_LISTEN", "127.0.0.1", wantListen},
	{"AGENT_LISTEN", "127.0.0.1:65536", wantListen},
	{"AGENT_LISTEN", "localhost:http", wantListen},
	{"AGENT_LISTEN", "::1:9478", wantListen},
	{"AGENT_LISTEN", "[fe80::x]:9478", wantListen},
	{"AGENT_LISTEN", "a/b:9478", wantListen},
	{"AGENT_LOG_LEVEL", "trace", "debug, info, warn or error"},
	{"AGENT_LOG_FORMAT", "text", "auto, console or json"},
}

func TestRejectedVariables(t *testing.T) {
	for _, c := range slices.Concat(rejectedFlows, rejectedDelivery) {
		wantError(t, c.name+"="+c.text, c.name+`="`+c.text+`": want `+c.want)
	}
	long := strings.Repeat("x", 254)
	wantError(t, "NODE_NAME="+long, `NODE_NAME="`+long[:64]+`"…: want `+wantHostname)
	wantError(t, "AGENT_LOG_LEVEL=a\nb\"", `AGENT_LOG_LEVEL="a\nb\"": want debug, info, warn or error`)
	wantError(t, "AGENT_ENDPOINT_URL=http://brain:99999/?key=secret", `AGENT_ENDPOINT_URL="http://brain:99999/?***": want `+wantPort)
	for leaky, want := range map[string]string{
		"http://me:secret@brain:99999/": wantPort, "http://me:sec/ret@brain:99999/": wantPort, "htp:me:secret@brain:99999/": wantEndpoint,
	} {
		wantError(t, "AGENT_ENDPOINT_URL="+leaky, `AGENT_ENDPOINT_URL="***@brain:99999/": want `+want)
	}
}

func wantError(t *testing.T, entry, want string) {
	t.Helper()
	got, err := Parse(nil, []string{entry}, io.Discard)
	if err == nil || err.Error() != want {
		t.Errorf("%.100q: %v\nwant %s", entry, err, want)
	}
	if !reflect.DeepEqual(got, Invocation{}) {
		t.Errorf("%.100q: an error came with %+v", entry, got)
	}
}

func TestUnknownVariables(t *testing.T) {
	for name, want := range map[string]string{
		"AGENT_INTERFACES":       "AGENT_INTERFACES is not a setting; did you mean AGENT_INTERFACE?",
		"AGENT_BATCHSIZE":        "AGENT_BATCHSIZE is not a setting; did you mean AGENT_BATCH_SIZE?",
		"AGENT_ENDPOINT":         "AGENT_ENDPOINT is not a setting; did you mean AGENT_ENDPOINT_URL?",
		"AGENT_UPD_IDLE_TIMEOUT": "AGENT_UPD_IDLE_TIMEOUT is not a setting; did you mean AGENT_UDP_IDLE_TIMEOUT?",
		"AGENT_TOKEN":            "AGENT_TOKEN is not a setting; see weir --help",
		"AGENT_HOSTNAME":         "AGENT_HOSTNAME is not a setting; see weir --help",
		"AGENT_":                 "AGENT_ is not a setting; see weir --help",
		"AGENT_A\nB":             "AGENT_A\ufffdB is not a setting; see weir --help",
		"AGENT_SERVICE_HOSTS":    "AGENT_SERVICE_HOSTS is not a setting; see weir --help",
		"AGENT_SERVICES_PORT":    "AGENT_SERVICES_PORT is not a setting; see weir --help",
		"AGENT_PORTS":            "AGENT_PORTS is not a setting; see weir --help",
		"AGENT_PORT_80":          "AGENT_PORT_80 is not a setting; see weir --help",
	} {
		wantError(t, name+"=secret", want)
	}
	wantError(t, "AGENT_"+strings.Repeat("X", 10000)+"=1", "AGENT_"+strings.Repeat("X", 58)+" is not a setting; see weir --help")
}

func TestPassedOver(t *testing.T) {
	environ := []string{
		"AGENT_SERVICE_HOST=10.0.0.1",
		"AGENT_SERVICE_PORT=80",
		"AGENT_SERVICE_PORT_HTTP=80",
		"AGENT_PORT=tcp://10.0.0.1:80",
		"AGENT_PORT_80_TCP=tcp://10.0.0.1:80",
		"AGENT_PORT_80_TCP_PROTO=tcp",
		"AGENT_PORT_80_TCP_PORT=80",
		"AGENT_PORT_80_TCP_ADDR=10.0.0.1",
		"AGENT_PORT_53_UDP_ADDR=10.0.0.1",
		"AGENT_PORT_9_SCTP=sctp://10.0.0.1:9",
		"AGENT_SNAP_LEN=",
		"AGENT_NONSENSE=", // as good as unset
		"AGENTS=1",
		"agent_interface=eth0",
		"PATH=/bin",
		"=oddity",
		"without-a-value",
		"",
	}
	if got := parseRun(t, nil, environ); !reflect.DeepEqual(got, defaults()) {
		t.Errorf("got %+v\nwant %+v", got, defaults())
	}
}

func TestNotices(t *testing.T) {
	environ := []string{"AGENT_PROMISCUOUS=true", "AGENT_SNAP_LEN=1600", "AGENT_BATCH_SIZE=7"}
	got, err := Parse(nil, environ, io.Discard)
	want := []string{
		"AGENT_PROMISCUOUS has no effect: weir counts what an interface receives and does not change its mode",
		"AGENT_SNAP_LEN has no effect: weir copies no packets, it counts each whole, in the kernel",
	}
	if err != nil || got.Settings.BatchSize != 7 || !reflect.DeepEqual(got.Notices, want) {
		t.Errorf("got %+v, %v; want notices %q", got, err, want)
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"same", "same", 0},
		{"kitten", "sitting", 3},
		{"UPD", "UDP", 2},
		{"flaw", "lawn", 2},
	} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
