package known

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestBadList(t *testing.T) {
	path := file(t, `# what we do not want to see

ja4 `+chromeHello+"\t a reason of words # and signs"+`
  ja4h ge11nn05* a bot
ja4+ja4s `+goHello+"+"+sliverAnswer+` Sliver
ja4x d55f458d5a6c_d55f458d5a6c_0fc8c171b6ae SoftEther
ja4x d55f458d5a6c_d55f458d5a6c_0fc8c171b6ae tunnels
`)
	l := NewBadList(path, zap.NewNop())
	if err := l.Load(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ method, value, ja4s, want string }{
		{"ja4", chromeHello, "", "a reason of words # and signs"},
		{"ja4h", "ge11nn05enus_9ed1ff1f7b03_cd8dafe26982_000000000000", "", "a bot"},
		{"ja4", goHello, "", ""},
		{"ja4", goHello, sliverAnswer, "Sliver"},
		{"ja4s", sliverAnswer, "", ""},
		{"ja4x", "d55f458d5a6c_d55f458d5a6c_0fc8c171b6ae", "", "SoftEther or tunnels"},
	} {
		if got := l.Lookup(tc.method, tc.value, tc.ja4s); got != tc.want {
			t.Errorf("Lookup(%q, %q, %q) = %q, want %q", tc.method, tc.value, tc.ja4s, got, tc.want)
		}
	}
}

func TestBadListRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"ja4":                     "line 3: want a method, a fingerprint and a reason",
		"ja4 " + chromeHello:      "line 3: want a method, a fingerprint and a reason",
		"ja5 a reason":            `line 3: "ja5" is no method`,
		"ja4ssh c36s36 reason":    `line 3: "ja4ssh" is no method`,
		"ja4+ja4s a reason":       `line 3: want a JA4 and a JA4S with "+"`,
		"ja4+ja4s +a reason":      `line 3: "" is no fingerprint`,
		"ja4 * reason":            `line 3: "*" is no fingerprint`,
		"ja4 \xff reason":         "line 3: the fingerprint",
		"ja4 a a\x00b":            "line 3: the text",
		"a\x1b[2J b c":            `line 3: "a\x1b[2J" is no method`,
		"ja4 a\u2028b reason":     `line 3: the fingerprint "a\u2028b"`,
		"ja4 a reason\vof words":  "line 3: the text",
		"ja4 a " + longText("x "): "line 3: a text has more than 256 bytes",
	} {
		err := NewBadList(file(t, "# comment\n\n"+line+"\n"), zap.NewNop()).Load()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", line, err, want)
		}
	}
}

func longText(s string) string { return strings.Repeat(s, 200) }

func TestListWithoutFile(t *testing.T) {
	l := NewDatabase("", zap.NewNop())
	if err := l.Load(); err != nil {
		t.Error(err)
	}
	l.Refresh(start)
	if got := l.Lookup("ja4", goHello, ""); got != "" || l.Errors() != 0 {
		t.Errorf("got %q, %d errors of no file", got, l.Errors())
	}
}

func TestLoadRefusesWhatIsNoFile(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	write(t, large, "")
	if err := os.Truncate(large, maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "missing"): "no such file",
		t.TempDir():                           "it is not a regular file",
		large:                                 "it has more than 67108864 bytes",
	} {
		if err := NewBadList(path, zap.NewNop()).Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load of %s: got %v, want %s", path, err, want)
		}
	}
}

// TestRefresh changes the file step by step.
func TestRefresh(t *testing.T) {
	path := file(t, "ja4 a_b_c first\n")
	log, logs := newLog()
	l := NewBadList(path, log)
	if err := l.Load(); err != nil {
		t.Fatal(err)
	}
	now := start
	for i, step := range []struct {
		change  func()
		want    string
		errors  uint64
		repairs int
	}{
		{func() {}, "first", 0, 0},
		{func() { write(t, path, "ja4 a_b_c second\n") }, "second", 0, 0},
		{func() { write(t, path, "ja4 a_b_c third\nnonsense\n") }, "second", 1, 0},
		{func() {}, "second", 1, 0}, // told once
		{func() { remove(t, path) }, "second", 2, 0},
		{func() {}, "second", 2, 0},
		{func() { write(t, path, "ja4 a_b_c fourth\n") }, "fourth", 2, 1},
		{func() {}, "fourth", 2, 1},
		{func() { remove(t, path) }, "fourth", 3, 1}, // told again
		{func() { replace(t, path, "ja4 a_b_c fifth\n") }, "fifth", 3, 2},
	} {
		step.change()
		now = now.Add(recheckEvery)
		l.Refresh(now)
		got := l.Lookup("ja4", "a_b_c", "")
		told, repairs := logs.FilterLevelExact(zap.ErrorLevel).Len(), logs.FilterMessage("fingerprints read again").Len()
		if got != step.want || l.Errors() != step.errors || told != int(step.errors) || repairs != step.repairs {
			t.Errorf("step %d: got %q, %d errors, %d told, %d repairs, want %+v", i, got, l.Errors(), told, repairs, step)
		}
	}
	write(t, path, "ja4 a_b_c too soon\n")
	l.Refresh(now.Add(recheckEvery - time.Nanosecond))
	if got := l.Lookup("ja4", "a_b_c", ""); got != "fifth" {
		t.Errorf("got %q less than a second later, want fifth", got)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// replace renames a new file to path.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
