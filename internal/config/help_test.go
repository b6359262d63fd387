package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func helpOf(t *testing.T, args ...string) string {
	t.Helper()
	var out strings.Builder
	if got, err := Parse(append(args, "--help"), nil, &out); err != nil || got.Command != CommandHelp {
		t.Fatalf("%q --help: %+v, %v", args, got, err)
	}
	return out.String()
}

// TestHelp looks for the shape of the help and one setting word for word; the words of the rest may change.
func TestHelp(t *testing.T) {
	general, run := helpOf(t), helpOf(t, "run")
	for name, text := range map[string]string{"general": general, "run": run} {
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(line) - 1; n > 80 || strings.HasSuffix(line, " \n") || !strings.HasSuffix(line, "\n") {
				t.Errorf("%s: a line of %d columns: %q", name, n, line)
			}
		}
		rest := text
		for _, title := range []string{"Capture", "Flows", "Delivery", "Operation"} {
			_, after, ok := strings.Cut(rest, "\n\n"+title+":\n  --")
			if !ok {
				t.Fatalf("%s: no %s after\n%s", name, title, text)
			}
			rest = after
		}
		for _, flag := range settingsOf(t) {
			line := fmt.Sprintf("\n  --%s, %s", flag.Name, flag.Tag.Get("var"))
			if flag.HasDefault {
				line += fmt.Sprintf(" (default %s)", flag.Default)
			}
			flat := strings.Join(strings.Fields(text), " ")
			if !strings.Contains(text, line+"\n        ") || !strings.Contains(flat, flag.Help+" Allowed: "+allowed(flag)+".") {
				t.Errorf("%s: --%s is not told whole in\n%s", name, flag.Name, text)
			}
		}
	}
	const word = `
  --close-linger, AGENT_CLOSE_LINGER (default 1s)
        How long a closed TCP connection waits for its last packets; after a
        reset, a third of it. Allowed: seconds, or a duration such as 1m30s,
        from 0s to 1m.
`
	if !strings.Contains(general, word) {
		t.Errorf("want%sin\n%s", word, general)
	}
	for _, command := range []Command{CommandRun, CommandReplay, CommandVersion, CommandHelp} {
		if !strings.Contains(general, "\n  "+string(command)+" ") {
			t.Errorf("no command %s in\n%s", command, general)
		}
	}
	if strings.Contains(run, "Commands:") || !strings.HasPrefix(run, "Usage: weir run [--SETTING=VALUE ...]\n") {
		t.Errorf("help of run:\n%s", run)
	}
	const ofReplay = "Usage: weir replay FILE [--SETTING=VALUE ...]\n\nprint the flows of a pcap or pcapng file"
	if got := helpOf(t, "replay"); !strings.HasPrefix(got, ofReplay) || strings.Contains(got, "--interface") {
		t.Errorf("help of replay:\n%s", got)
	}
	var out strings.Builder
	if got, err := Parse([]string{"help"}, []string{"AGENT_BATCH_SIZE=many"}, &out); err != nil || got.Command != CommandHelp || out.String() != general {
		t.Errorf("weir help: %+v, %v, it printed %q", got, err, out.String())
	}
	if got, want := helpOf(t, "version"), "Usage: weir version\n\nprint the version\n"; got != want {
		t.Errorf("help of version: %q, want %q", got, want)
	}
}

func TestReference(t *testing.T) {
	text, err := Reference()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	for _, want := range []string{
		"### Delivery",
		"| variable | flag | default | |",
		"| `AGENT_BATCH_SIZE` | `--batch-size` | `500` | Events per batch at most. Allowed: a whole number from 1 to 100000. |",
		"| `NODE_NAME` | `--hostname` | unset | This host's name in events. Unset, it is the system's. Allowed: " +
			"a host name of at most 253 letters, digits, dots, hyphens and underscores. |",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	rows := 0
	for _, line := range lines {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		if n := strings.Count(line, "|"); n != 5 {
			t.Errorf("%d bars in %q", n, line)
		}
		if strings.HasPrefix(line, "| `") {
			rows++
		}
	}
	if want := len(settingsOf(t)); rows != want {
		t.Errorf("%d rows for %d settings", rows, want)
	}
}
