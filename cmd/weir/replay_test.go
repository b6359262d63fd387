package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"weir/internal/testnet"
)

// TestReplay compares exit codes and output of replays: events on stdout, the ledger on stderr and, where the capture could not
// be read to its end, why not behind it.
func TestReplay(t *testing.T) {
	testnet.NeedRoot(t)
	t.Chdir(t.TempDir())
	files := replayFiles(t)
	for name, file := range files {
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range replays(files["whole.pcap"]) {
		t.Run(row.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append([]string{"replay"}, strings.Fields(row.args)...)
			code := run(t.Context(), args, []string{"NODE_NAME=node-1"}, bytes.NewReader(row.stdin), &stdout, &stderr)
			if code != row.code {
				t.Errorf("exit code %d, want %d", code, row.code)
			}
			for got, want := range map[*bytes.Buffer]string{&stdout: row.stdout, &stderr: row.stderr} {
				if !regexp.MustCompile(`\A` + want + `\z`).Match(got.Bytes()) {
					t.Errorf("printed %q, want %q", got, want)
				}
			}
		})
	}
}

// replayFiles returns captures by the names of their files.
func replayFiles(t *testing.T) map[string][]byte {
	frame := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 10).Bytes()
	whole := testnet.Pcap(t, testnet.Captured{Frame: frame}, testnet.Captured{At: time.Minute, Frame: frame})
	large := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 1000).Bytes() // 1042 bytes, of which 512 are handed to the kernel
	var flows []testnet.Captured
	for port := range 5000 {
		flows = append(flows, testnet.Captured{Frame: testnet.UDP(fmt.Sprintf("10.0.0.1:%d", 1+port), "10.0.0.2:53", 0).Bytes()})
	}
	gre := testnet.IP("192.0.2.1", "192.0.2.2", 47, append([]byte{0, 0, 8, 0}, frame[14:]...)).Bytes()
	return map[string][]byte{
		"sizes.pcap": testnet.Pcap(t, testnet.Captured{Frame: frame}, testnet.Captured{Frame: large}),
		"flows.pcap": testnet.Pcap(t, flows...),
		"gre.pcap":   testnet.Pcap(t, testnet.Captured{Frame: gre}),
		"whole.pcap": whole, "cut.pcap": whole[:len(whole)-1], "none.pcap": whole[:24], "a\x1b[2J": whole[:24],
	}
}

// replayRow is a replay and what it comes to.
type replayRow struct {
	name, args     string
	stdin          []byte
	code           int
	stdout, stderr string // regular expressions for the whole
}

func replays(whole []byte) []replayRow {
	event := func(name, second, reason string) string {
		return `{"flow_id":"10.0.0.1:1000-10.0.0.2:53-UDP","timestamp":"2026-11-21T12:0` + second + `:00.000001Z","interface":"` + name +
			`","hostname":"node-1","direction":"unknown",[^\n]*,"packet_count":1,"byte_count":52,[^\n]*,"end_reason":"` + reason + `",[^\n]*}\n`
	}
	ledger := func(packets string) string {
		return ` +packets +bytes +connections\n(?s:.* unaccounted +0 +0 .*)\nevents: ` + packets + `\n`
	}
	return []replayRow{
		{"a file", "whole.pcap", nil, 0, event("whole.pcap", "0", "idle") + event("whole.pcap", "1", "shutdown"), ledger("2")},
		{"standard input", "-", whole, 0, event("stdin", "0", "idle") + event("stdin", "1", "shutdown"), ledger("2")},
		{"a memory that cannot be written", "--fingerprint-memory=missing/memory whole.pcap", nil, 0, `(?s:.*)`, ledger("2")},
		{"a setting", "--udp-idle-timeout=2m --active-timeout=2m whole.pcap", nil, 0, `[^\n]*"packet_count":2,[^\n]*\n`, ledger("1")},
		{
			"a filter by the length on the wire", "--bpf-filter=len=1042 sizes.pcap", nil, 0, `[^\n]*"packet_count":1,"byte_count":1042,[^\n]*\n`,
			` +packets +bytes +connections\n +seen +2 +1094 .*\n +filtered +1 +52 .*\n +counted +1 +1042 (?s:.*)events: 1\n`,
		},
		{
			"a tunnel", "--decap=gre gre.pcap", nil, 0,
			`{"flow_id":"10.0.0.1:1000-10.0.0.2:53-UDP",[^\n]*"encapsulation":"gre",[^\n]*"outer_src_ip":"192.0.2.1",[^\n]*\n`, ledger("1"),
		},
		{
			"a flow for each packet, in a map made for the file", "flows.pcap", nil, 0, `(?s:.*)`,
			`(?s:.* counted +5000 .* evicted +0 +0 .*)events: 5000\n`,
		},
		{"without packets", "none.pcap", nil, 0, "", ledger("0")},
		{
			"cut short", "cut.pcap", nil, 1, event("cut.pcap", "0", "shutdown"),
			ledger("1") + `weir: replay "cut.pcap": behind packet 1, at byte 92: the file is cut short\n`,
		},
		{"foreign", "-", []byte("GIF89a"), 1, "", `weir: replay "-": not a pcap or pcapng file: it begins with 47494638\n`},
		{"empty", "-", nil, 1, "", `weir: replay "-": not a pcap or pcapng file: it has 0 bytes\n`},
		{"missing", "none", nil, 1, "", `weir: replay "none": open none: no such file or directory\n`},
		{"a folder", ".", nil, 1, "", `weir: replay ".": read .: is a directory\n`},
		{"a strange name", "a\x1b[2J", nil, 0, "", ledger("0")},
		{"a strange name that is missing", "b\x1b[2J", nil, 1, "", `weir: replay "b\\x1b\[2J": open b�\[2J: no such file or directory\n`},
		{"no file", "", nil, 2, "", `weir: expected "<file>"; see weir --help\n`},
		{"not a setting of replay", "whole.pcap --listen=:1", nil, 2, "", `weir: unknown flag --listen[^\n]*\n`},
	}
}
