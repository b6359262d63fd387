package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"weir/internal/datapath"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun compares exit codes and output: what is in order goes to stdout, and a failure is one line on stderr.
func TestRun(t *testing.T) {
	const allowed = ` want [^\n]*\n`
	aboutVersion := `weir \S+\ncommit \S+\nbuilt by ` + regexp.QuoteMeta(runtime.Version()) + ` for linux/\w+\nkernel object ` +
		datapath.ObjectHash() + `\n`
	for _, row := range []struct {
		name, args, environ string
		code                int
		stdout, stderr      string // regular expressions for the whole
	}{
		{"version", "version", "", 0, aboutVersion, ""},
		{"version, whatever is set", "--version", "AGENT_BATCH_SIZE=x", 0, aboutVersion, ""},
		{"help", "--help", "", 0, `Usage: weir (?s:.*)--interface, AGENT_INTERFACE(?s:.*)\n`, ""},
		{"help of run", "run -h", "", 0, `Usage: weir run (?s:.*)\n`, ""},
		{"bad variable", "", "AGENT_BATCH_SIZE=many", 2, "", `weir: AGENT_BATCH_SIZE="many":` + allowed},
		{"bad flag", "run --max-flows=1", "", 2, "", `weir: --max-flows="1":` + allowed},
		{"unknown command", "stop", "", 2, "", `weir: unexpected argument stop[^\n]*\n`},
		{"unpin again", "unpin --pin-dir=/nonexistent/pins", "", 0, `nothing of weir's is there: there is no /nonexistent/pins\n`, ""},
		{"unpin what is no folder of pins", "unpin --pin-dir=/dev/null", "", 1, "", `weir: [^\n]*/dev/null[^\n]*\n`},
		{"unpin nothing", "unpin", "", 1, "", `weir: name the folder of pins[^\n]*\n`},
		{
			"missing interface", "--interface=nonesuch", "AGENT_LOG_FORMAT=console", 1,
			"", `weir: interface "nonesuch": there is none; there are lo[^\n]*\n`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), strings.Fields(row.args), strings.Fields(row.environ), nil, &stdout, &stderr); code != row.code {
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

// TestNotices: a setting of go-Tracer's that has no effect here is a log entry.
func TestNotices(t *testing.T) {
	var stderr strings.Builder
	environ := []string{"AGENT_SNAP_LEN=96", "AGENT_INTERFACE=nonesuch"}
	if code := run(t.Context(), nil, environ, nil, io.Discard, &stderr); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"msg":"AGENT_SNAP_LEN has no effect`) {
		t.Errorf("printed %q, want a log entry and the failure", lines)
	}
}

func TestRevision(t *testing.T) {
	for _, row := range []struct {
		revision, modified, want string
	}{
		{"0123abc", "false", "0123abc"},
		{"0123abc", "true", "0123abc-dirty"},
		{"", "", ""},
	} {
		got := revision([]debug.BuildSetting{{Key: "vcs.revision", Value: row.revision}, {Key: "vcs.modified", Value: row.modified}})
		if got != row.want {
			t.Errorf("revision %q, want %q", got, row.want)
		}
	}
}

// TestOutstayed: a signal that comes with the first one is the same request, and a later one is impatience.
func TestOutstayed(t *testing.T) {
	const timeout, ends = 10 * time.Second, 5 * time.Second
	for name, tc := range map[string]struct {
		signals []time.Duration // after the first
		ends    time.Duration
		want    bool
		took    time.Duration
	}{
		"in time":        {nil, ends, false, ends},
		"too late":       {nil, time.Hour, true, timeout},
		"by timeout(1)":  {[]time.Duration{time.Microsecond, sameRequest - 1}, ends, false, ends},
		"impatience":     {[]time.Duration{time.Second}, ends, true, time.Second},
		"both":           {[]time.Duration{0, 2 * time.Second}, ends, true, 2 * time.Second},
		"same, too late": {[]time.Duration{0}, time.Hour, true, timeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				again, ended := make(chan os.Signal, 1), make(chan struct{})
				for _, after := range tc.signals {
					time.AfterFunc(after, func() { again <- syscall.SIGTERM })
				}
				end := time.AfterFunc(tc.ends, func() { close(ended) })
				defer end.Stop()
				begin := time.Now()
				got := outstayed(timeout, again, ended)
				if took := time.Since(begin); got != tc.want || took != tc.took {
					t.Errorf("%t after %s, want %t after %s", got, took, tc.want, tc.took)
				}
			})
		})
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestUnwrittenVersion(t *testing.T) {
	var stderr strings.Builder
	if code := run(t.Context(), []string{"version"}, nil, nil, brokenWriter{}, &stderr); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got, want := stderr.String(), "weir: write the version: no space left\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestFailIsOneLine(t *testing.T) {
	for _, row := range []struct {
		err  error
		want string
	}{
		{errors.New("plain, ünïcode"), "weir: plain, ünïcode\n"},
		{errors.Join(errors.New("first"), errors.New("second")), "weir: first; second\n"},
		{errors.New("an interface named \x1b[2J\r\u009b1m\u202e"), "weir: an interface named �[2J��1m�\n"},
	} {
		var stderr strings.Builder
		if code := fail(&stderr, 1, row.err); code != 1 || stderr.String() != row.want {
			t.Errorf("exit code %d, printed %q; want 1, %q", code, stderr.String(), row.want)
		}
	}
}
