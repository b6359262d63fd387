package config

import (
	"errors"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/zap/zapcore"

	"weir/internal/filter"
	"weir/internal/flow"
)

// defaults is what design and README promise to who sets nothing.
func defaults() Settings {
	return Settings{
		Interface:        Interfaces{Mode: InterfacesAuto},
		IngressHook:      IngressAuto,
		Sampling:         1,
		Zones:            ZonesNone,
		FlowShape:        ShapeFlow,
		MaxFlows:         262144,
		HighWater:        80,
		TCPIdleTimeout:   time.Minute,
		UDPIdleTimeout:   30 * time.Second,
		ActiveTimeout:    time.Minute,
		CloseLinger:      time.Second,
		Fingerprints:     Fingerprints{flow.JA4},
		FingerprintLearn: 24 * time.Hour,
		FingerprintRate:  20000,
		EndpointURL:      Endpoint{},
		BatchSize:        500,
		SendInterval:     5 * time.Second,
		BatchFormat:      FormatAuto,
		Compression:      CompressNone,
		QueueMaxBytes:    64 << 20,
		SendConcurrency:  2,
		BacklogShare:     80,
		SpoolMaxBytes:    1 << 30,
		SpoolSync:        SpoolSync(time.Second),
		StopTimeout:      10 * time.Second,
		Listen:           "127.0.0.1:9478",
		LogLevel:         zapcore.InfoLevel,
		LogFormat:        LogAuto,
	}
}

// settingsOf returns kong's view of the settings of "weir run".
func settingsOf(t *testing.T) []*kong.Flag {
	t.Helper()
	parser, err := newParser(&grammar{})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model.DefaultCmd.Flags
}

func parseRun(t *testing.T, args, environ []string) Settings {
	t.Helper()
	got, err := Parse(args, environ, io.Discard)
	if err != nil {
		t.Fatalf("Parse(%q, %q): %v", args, environ, err)
	}
	if got.Command != CommandRun || len(got.Notices) != 0 {
		t.Fatalf("Parse(%q, %q): command %q, notices %q", args, environ, got.Command, got.Notices)
	}
	return got.Settings
}

func TestDefaults(t *testing.T) {
	for name, args := range map[string][]string{"nothing": nil, "run": {"run"}} {
		t.Run(name, func(t *testing.T) {
			if got := parseRun(t, args, nil); !reflect.DeepEqual(got, defaults()) {
				t.Errorf("got %+v\nwant %+v", got, defaults())
			}
		})
	}
	t.Run("empty variables", func(t *testing.T) {
		var environ []string
		for _, flag := range settingsOf(t) {
			environ = append(environ, flag.Tag.Get("var")+"= \t")
		}
		if got := parseRun(t, nil, environ); !reflect.DeepEqual(got, defaults()) {
			t.Errorf("got %+v\nwant %+v", got, defaults())
		}
	})
}

// TestProcessEnvironmentUnread guards against kong's habits: it reads variables and the terminal's width by itself.
func TestProcessEnvironmentUnread(t *testing.T) {
	var before, after strings.Builder
	if _, err := Parse([]string{"--help"}, nil, &before); err != nil {
		t.Fatal(err)
	}
	for _, flag := range settingsOf(t) {
		t.Setenv(flag.Tag.Get("var"), "!")
	}
	t.Setenv("AGENT_UNKNOWN", "1")
	t.Setenv("COLUMNS", "40")
	if got := parseRun(t, nil, nil); !reflect.DeepEqual(got, defaults()) {
		t.Errorf("got %+v\nwant %+v", got, defaults())
	}
	if _, err := Parse([]string{"--help"}, nil, &after); err != nil {
		t.Fatal(err)
	}
	if before.String() != after.String() {
		t.Errorf("the help depends on the process's environment:\n%s", after.String())
	}
}

func compiled(expression string) Filter {
	program, _ := filter.Compile(expression)
	return Filter{expression, program}
}

// settingCases is a value for each setting that is not its default, and often more.
var settingCases = []struct {
	flag, text string
	set        func(*Settings)
}{
	{"interface", "all", func(s *Settings) { s.Interface.Mode = InterfacesAll }},
	{"interface", "ALL", func(s *Settings) { s.Interface.Mode = InterfacesAll }},
	{"interface", "eth0", func(s *Settings) { s.Interface = Interfaces{InterfacesNamed, []string{"eth0"}} }},
	{"interface", "eth0, en* ,veth[0-9]?", func(s *Settings) {
		s.Interface = Interfaces{InterfacesNamed, []string{"eth0", "en*", "veth[0-9]?"}}
	}},
	{"interface", "fifteen-bytes-x", func(s *Settings) { s.Interface = Interfaces{InterfacesNamed, []string{"fifteen-bytes-x"}} }},
	{"interface", "a-glob-longer-than-names*", func(s *Settings) {
		s.Interface = Interfaces{InterfacesNamed, []string{"a-glob-longer-than-names*"}}
	}},
	{"netns", "/run/netns/*, /proc/1234/ns/net", func(s *Settings) { s.Netns = Paths{"/run/netns/*", "/proc/1234/ns/net"} }},
	{"ingress-hook", "xdp", func(s *Settings) { s.IngressHook = IngressXDP }},
	{"ingress-hook", "xdp-generic", func(s *Settings) { s.IngressHook = IngressXDPGeneric }},
	{"ingress-hook", "tc", func(s *Settings) { s.IngressHook = IngressTC }},
	{"bpf-filter", "tcp port 443", func(s *Settings) { s.BPFFilter = compiled("tcp port 443") }},
	{"bpf-filter", "ip6 and not (host fd00::1 or port 53)", func(s *Settings) {
		s.BPFFilter = compiled("ip6 and not (host fd00::1 or port 53)")
	}},
	{"sampling", "1000", func(s *Settings) { s.Sampling = 1000 }},
	{"zones", "VLAN", func(s *Settings) { s.Zones = ZonesVLAN }},
	{"decap", "VXLAN", func(s *Settings) { s.Decap = Decap{flow.TunnelVXLAN: 4789} }},
	{"decap", "vxlan:8472, geneve ,gre,ipip,gtpu,erspan", func(s *Settings) {
		s.Decap = Decap{flow.TunnelVXLAN: 8472, flow.TunnelGeneve: 6081, flow.TunnelGRE: 0, flow.TunnelIPIP: 0, flow.TunnelGTPU: 2152, flow.TunnelERSPAN: 0}
	}},
	{"flow-shape", "connection", func(s *Settings) { s.FlowShape = ShapeConnection }},
	{"max-flows", "1024", func(s *Settings) { s.MaxFlows = 1024 }},
	{"max-flows", "16777216", func(s *Settings) { s.MaxFlows = 16777216 }},
	{"high-water", "100", func(s *Settings) { s.HighWater = 100 }},
	{"tcp-idle-timeout", "1m30s", func(s *Settings) { s.TCPIdleTimeout = 90 * time.Second }},
	{"udp-idle-timeout", "0.5", func(s *Settings) { s.UDPIdleTimeout = 500 * time.Millisecond }},
	{"active-timeout", "24h", func(s *Settings) { s.ActiveTimeout = 24 * time.Hour }},
	{"close-linger", "0", func(s *Settings) { s.CloseLinger = 0 }},
	{"close-linger", "333ms", func(s *Settings) { s.CloseLinger = 333 * time.Millisecond }},
	{"fingerprints", "NONE", func(s *Settings) { s.Fingerprints = nil }},
	{"fingerprints", "ja4x, ja4_r,JA4", func(s *Settings) { s.Fingerprints = Fingerprints{flow.JA4, flow.JA4Raw, flow.JA4X} }},
	{"fingerprints", "all", func(s *Settings) {
		s.Fingerprints = Fingerprints{
			flow.JA4, flow.JA4S, flow.JA4H, flow.JA4X, flow.JA4T, flow.JA4TS, flow.JA4L, flow.JA4LS, flow.JA4SSH, flow.JA4D, flow.JA4D6,
		}
	}},
	{"fingerprints", "ja4h_r,All, ja4_r", func(s *Settings) {
		s.Fingerprints = Fingerprints{
			flow.JA4, flow.JA4Raw, flow.JA4S, flow.JA4H, flow.JA4HRaw, flow.JA4X, flow.JA4T, flow.JA4TS, flow.JA4L, flow.JA4LS,
			flow.JA4SSH, flow.JA4D, flow.JA4D6,
		}
	}},
	{"fingerprint-db", "/etc/weir/ja4plus-mapping.csv", func(s *Settings) { s.FingerprintDB = "/etc/weir/ja4plus-mapping.csv" }},
	{"bad-fingerprints", "/etc/weir/bad", func(s *Settings) { s.BadFingerprints = "/etc/weir/bad" }},
	{"fingerprint-memory", "/var/lib/weir/seen", func(s *Settings) { s.FingerprintMemory = "/var/lib/weir/seen" }},
	{"fingerprint-learn", "0", func(s *Settings) { s.FingerprintLearn = 0 }},
	{"fingerprint-rate", "0", func(s *Settings) { s.FingerprintRate = 0 }},
	{"endpoint-url", "STDOUT", func(*Settings) {}},
	{"endpoint-url", "file:/var/log/flows", func(s *Settings) { s.EndpointURL = Endpoint{Path: "/var/log/flows"} }},
	{"endpoint-url", "https://brain:8000/ingest?a=b", func(s *Settings) {
		s.EndpointURL = Endpoint{URL: &url.URL{Scheme: "https", Host: "brain:8000", Path: "/ingest", RawQuery: "a=b"}}
	}},
	{"batch-size", "1", func(s *Settings) { s.BatchSize = 1 }},
	{"batch-size", "100000", func(s *Settings) { s.BatchSize = 100000 }},
	{"send-interval", "7", func(s *Settings) { s.SendInterval = 7 * time.Second }},
	{"batch-format", "array", func(s *Settings) { s.BatchFormat = FormatArray }},
	{"batch-format", "ndjson", func(s *Settings) { s.BatchFormat = FormatNDJSON }},
	{"batch-format", "single", func(s *Settings) { s.BatchFormat = FormatSingle }},
	{"compression", "gzip", func(s *Settings) { s.Compression = CompressGzip }},
	{"compression", "zstd", func(s *Settings) { s.Compression = CompressZstd }},
	{"queue-max-bytes", "1GiB", func(s *Settings) { s.QueueMaxBytes = 1 << 30 }},
	{"queue-max-bytes", "1048576", func(s *Settings) { s.QueueMaxBytes = 1 << 20 }},
	{"pin-dir", "/sys/fs/bpf/weir", func(s *Settings) { s.PinDir = "/sys/fs/bpf/weir" }},
	{"queue-max-age", "24h", func(s *Settings) { s.QueueMaxAge = 24 * time.Hour }},
	{"send-concurrency", "8", func(s *Settings) { s.SendConcurrency = 8 }},
	{"backlog-share", "50", func(s *Settings) { s.BacklogShare = 50 }},
	{"spool-dir", "/var/lib/weir/spool", func(s *Settings) { s.SpoolDir = "/var/lib/weir/spool" }},
	{"spool-max-bytes", "16GiB", func(s *Settings) { s.SpoolMaxBytes = 16 << 30 }},
	{"spool-sync", "always", func(s *Settings) { s.SpoolSync = SyncAlways }},
	{"spool-sync", "Never", func(s *Settings) { s.SpoolSync = SyncNever }},
	{"spool-sync", "0.25", func(s *Settings) { s.SpoolSync = SpoolSync(250 * time.Millisecond) }},
	{"quarantine-file", "/var/log/refused", func(s *Settings) { s.QuarantineFile = "/var/log/refused" }},
	{"token-file", "/run/secrets/token", func(s *Settings) { s.TokenFile = "/run/secrets/token" }},
	{"tls-ca-file", "/etc/ca.pem", func(s *Settings) { s.TLSCAFile = "/etc/ca.pem" }},
	{"tls-cert-file", "/etc/cert.pem", func(s *Settings) { s.TLSCertFile = "/etc/cert.pem" }},
	{"tls-key-file", "/etc/key.pem", func(s *Settings) { s.TLSKeyFile = "/etc/key.pem" }},
	{"insecure-http", "true", func(s *Settings) { s.InsecureHTTP = true }},
	{"stop-timeout", "25s", func(s *Settings) { s.StopTimeout = 25 * time.Second }},
	{"hostname", "node-1.example", func(s *Settings) { s.Hostname = "node-1.example" }},
	{"listen", ":9479", func(s *Settings) { s.Listen = ":9479" }},
	{"listen", "[::1]:0", func(s *Settings) { s.Listen = "[::1]:0" }},
	{"listen", "localhost:80", func(s *Settings) { s.Listen = "localhost:80" }},
	{"log-level", "debug", func(s *Settings) { s.LogLevel = zapcore.DebugLevel }},
	{"log-level", "WARN", func(s *Settings) { s.LogLevel = zapcore.WarnLevel }},
	{"log-level", "error", func(s *Settings) { s.LogLevel = zapcore.ErrorLevel }},
	{"log-format", "json", func(s *Settings) { s.LogFormat = LogJSON }},
	{"log-format", "console", func(s *Settings) { s.LogFormat = LogConsole }},
}

// TestEachSetting gives every case as a variable, as a flag in both spellings, and as a flag against a variable.
func TestEachSetting(t *testing.T) {
	untested := map[string]string{} // flag to variable
	for _, flag := range settingsOf(t) {
		untested[flag.Name] = flag.Tag.Get("var")
	}
	names := map[string]string{}
	for _, c := range settingCases {
		if name, ok := untested[c.flag]; ok {
			names[c.flag] = name
			delete(untested, c.flag)
		}
		want := defaults()
		c.set(&want)
		name := names[c.flag]
		for how, given := range map[string]struct{ args, environ []string }{
			"variable":           {nil, []string{name + "= " + c.text + "\n"}},
			"variable, run":      {[]string{"run"}, []string{name + "=" + c.text}},
			"flag":               {[]string{"--" + c.flag, c.text}, nil},
			"flag=":              {[]string{"run", "--" + c.flag + "= " + c.text}, nil},
			"flag over variable": {[]string{"--" + c.flag + "=" + c.text}, []string{name + "=!"}},
			"the last flag":      {[]string{"--" + c.flag, settingDefault(t, c.flag), "--" + c.flag, c.text}, nil},
		} {
			t.Run(c.flag+"/"+c.text+"/"+how, func(t *testing.T) {
				if got := parseRun(t, given.args, given.environ); !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v\nwant %+v", got, want)
				}
			})
		}
	}
	if len(untested) > 0 {
		t.Errorf("settings without a case: %v", untested)
	}
}

// settingDefault is some allowed value of a setting: its default, if it has one.
func settingDefault(t *testing.T, name string) string {
	t.Helper()
	for _, flag := range settingsOf(t) {
		if flag.Name == name && flag.HasDefault {
			return flag.Default
		}
	}
	if value, ok := map[string]string{"hostname": "x", "bpf-filter": "ip"}[name]; ok {
		return value
	}
	return "/x" // a path
}

// TestNames holds the rule that leads from a flag to its variable, and that the limits themselves are allowed.
func TestNames(t *testing.T) {
	for _, flag := range settingsOf(t) {
		want := "AGENT_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if flag.Name == "hostname" {
			want = "NODE_NAME"
		}
		if got := flag.Tag.Get("var"); got != want {
			t.Errorf("--%s has variable %s, want %s", flag.Name, got, want)
		}
		for _, limit := range []string{"min", "max"} {
			if flag.Tag.Has(limit) {
				parseRun(t, []string{"--" + flag.Name, flag.Tag.Get(limit)}, nil)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	broken := []string{"AGENT_BATCH_SIZE=many", "AGENT_NONSENSE=1", "AGENT_BPF_FILTER=tcp port", "AGENT_SNAP_LEN=1"}
	for name, c := range map[string]struct {
		args []string
		want Command
	}{
		"version":         {[]string{"version"}, CommandVersion},
		"version, a flag": {[]string{"--version"}, CommandVersion},
		"version of run":  {[]string{"run", "--version"}, CommandVersion},
		"help":            {[]string{"--help"}, CommandHelp},
		"short":           {[]string{"-h"}, CommandHelp},
		"help of run":     {[]string{"run", "--help"}, CommandHelp},
		"help of version": {[]string{"version", "-h"}, CommandHelp},
		"help of replay":  {[]string{"replay", "--help"}, CommandHelp},
		"help at the end": {[]string{"--batch-size", "7", "--help"}, CommandHelp},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			got, err := Parse(c.args, broken, &out)
			if err != nil || !reflect.DeepEqual(got, Invocation{Command: c.want}) {
				t.Errorf("got %+v, %v; want the command %q, nothing else", got, err, c.want)
			}
			if wrote := out.Len() > 0; wrote != (c.want == CommandHelp) {
				t.Errorf("wrote %q", out.String())
			}
		})
	}
}

// TestReplay: a replay has a file and, of the settings, those that a capture has use for.
func TestReplay(t *testing.T) {
	want := Settings{
		Sampling: 1, FlowShape: ShapeConnection, MaxFlows: 262144, HighWater: 80, Zones: ZonesNone, Hostname: "node-1",
		TCPIdleTimeout: time.Minute, UDPIdleTimeout: 30 * time.Second, ActiveTimeout: 5 * time.Second, CloseLinger: time.Second,
		Fingerprints: Fingerprints{flow.JA4},
	}
	environ := []string{"AGENT_ACTIVE_TIMEOUT=5", "NODE_NAME=node-1", "AGENT_ENDPOINT_URL=http://brain/", "AGENT_BATCH_SIZE=many"}
	for _, file := range []string{"-", "a.pcap"} {
		got, err := Parse([]string{"replay", file, "--flow-shape=connection"}, environ, io.Discard)
		if err != nil || !reflect.DeepEqual(got, Invocation{Command: CommandReplay, File: file, Settings: want}) {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
	if _, err := Parse([]string{"replay", "a.pcap"}, []string{"AGENT_COLOUR=red"}, io.Discard); err == nil {
		t.Error("no error from a variable that is no setting")
	}
}

// TestUnpin: it has the folder of pins, and minds no other setting.
func TestUnpin(t *testing.T) {
	got, err := Parse([]string{"unpin"}, []string{"AGENT_PIN_DIR=/sys/fs/bpf/weir", "AGENT_BATCH_SIZE=many"}, io.Discard)
	want := Invocation{Command: CommandUnpin, Settings: Settings{PinDir: "/sys/fs/bpf/weir"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestCommandLineErrors(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":    {[]string{"stop"}, `unexpected argument stop; see weir --help`},
		"two commands":       {[]string{"run", "version"}, `unexpected argument version; see weir --help`},
		"a URL by itself":    {[]string{"run", "http://me:secret@brain/i"}, `unexpected argument ***@brain/i; see weir --help`},
		"unknown flag":       {[]string{"--colour=red"}, `unknown flag --colour; see weir --help`},
		"mistyped flag":      {[]string{"--batchsize=1"}, `unknown flag --batchsize, did you mean "--batch-size"?; see weir --help`},
		"one hyphen":         {[]string{"-interface=lo"}, `unknown flag -interface, did you mean "--interface"?; see weir --help`},
		"one hyphen, value":  {[]string{"run", "-interface", "lo"}, `unknown flag -interface, did you mean "--interface"?; see weir --help`},
		"short and unknown":  {[]string{"-i", "lo"}, `unknown flag -i, did you mean "-h"?; see weir --help`},
		"flag of another":    {[]string{"--batch-size=1", "version"}, `flag --batch-size applies to the default command "run", not "version"; see weir --help`},
		"several lines":      {[]string{"run", "a\nb\x1b[0m\u202e"}, "unexpected argument a\ufffdb\ufffd[0m\ufffd; see weir --help"},
		"no file":            {[]string{"replay"}, `expected "<file>"; see weir --help`},
		"two files":          {[]string{"replay", "a", "b"}, `unexpected argument b; see weir --help`},
		"not of replay":      {[]string{"replay", "a", "--interface=eth0"}, `unknown flag --interface; see weir --help`},
		"no value":           {[]string{"--batch-size"}, `--batch-size has no value: want a whole number from 1 to 100000`},
		"no value, next":     {[]string{"--compression", "--batch-size=1"}, `--compression has no value: want none, gzip or zstd`},
		"empty value":        {[]string{"--compression="}, `--compression="": want none, gzip or zstd`},
		"negative value":     {[]string{"--batch-size", "-5"}, `--batch-size="-5": want a whole number from 1 to 100000`},
		"no filter":          {[]string{"--bpf-filter="}, `--bpf-filter="": at column 1: the expression ends where something to look for is wanted`},
		"a wrong filter":     {[]string{"--bpf-filter", "tcp prt 80"}, `--bpf-filter="tcp prt 80": at column 5: "prt", where only and, or, or the end can be`},
		"blanks in front":    {[]string{"--bpf-filter", "  tcp prt 80"}, `--bpf-filter="  tcp prt 80": at column 7: "prt", where only and, or, or the end can be`},
		"first of two flags": {[]string{"--batch-size=x", "--batch-size=1"}, `--batch-size="x": want a whole number from 1 to 100000`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(c.args, nil, io.Discard)
			if err == nil || err.Error() != c.want {
				t.Errorf("Parse(%q): %v\nwant %s", c.args, err, c.want)
			}
			if !reflect.DeepEqual(got, Invocation{}) {
				t.Errorf("an error came with %+v", got)
			}
		})
	}
}

var errClosed = errors.New("closed")

type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, errClosed }

func TestHelpUnwritten(t *testing.T) {
	_, err := Parse([]string{"--help"}, nil, closedWriter{})
	if err == nil || !strings.HasPrefix(err.Error(), "write the help: closed") {
		t.Errorf("got %v", err)
	}
}

// FuzzSettings holds that a flag and its variable mean the same, and that whatever is given, an error is one line.
func FuzzSettings(f *testing.F) {
	var flags []*kong.Flag
	if parser, err := newParser(&grammar{}); err != nil {
		f.Fatal(err)
	} else {
		flags = parser.Model.DefaultCmd.Flags
	}
	for i, flag := range flags {
		for _, c := range settingCases {
			if c.flag == flag.Name {
				f.Add(uint(i), c.text)
			}
		}
		f.Add(uint(i), "\n\x00\xff ,@:[")
	}
	f.Fuzz(func(t *testing.T, which uint, text string) {
		if strings.TrimSpace(text) == "" {
			return // the default as a variable, an error as a flag
		}
		flag := flags[which%uint(len(flags))]
		byFlag, errFlag := Parse([]string{"--" + flag.Name + "=" + text}, nil, io.Discard)
		byVariable, errVariable := Parse(nil, []string{flag.Tag.Get("var") + "=" + text}, io.Discard)
		if (errFlag == nil) != (errVariable == nil) || !reflect.DeepEqual(byFlag, byVariable) {
			t.Errorf("flag: %+v, %v\nvariable: %+v, %v", byFlag, errFlag, byVariable, errVariable)
		}
		for _, err := range []error{errFlag, errVariable} {
			if err != nil && (strings.ContainsAny(err.Error(), "\n\r\x1b") || len(err.Error()) > 1000) {
				t.Errorf("not one line: %q", err)
			}
		}
		if named := byFlag.Settings.Interface.Patterns; slices.Contains(named, "") {
			t.Errorf("empty pattern in %q", named)
		}
	})
}
