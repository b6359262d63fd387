package known

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
)

const (
	goHello      = "t13d190900_9dc949149365_97f8aa674fd9"
	sliverAnswer = "t130200_1301_a56c5b993250"
	chromeHello  = "t13d1516h2_8daaf6152771_02713d6af862"
)

const csvDatabase = `Application,Library,Device,OS,ja4,ja4s,ja4h,ja4x,ja4t,ja4tscan,Notes
"Chromium, all",,,,t13d1516h2_8daaf6152771_02713d6af862,,,,,,
 Edge ,,,,t13d1516h2_8daaf6152771_02713d6af862,,,,,,
Edge,,,,t13d1516h2_8daaf6152771_02713d6af862,,,,,,again
,GoLang,,,t13d190900_9dc949149365_97f8aa674fd9,,,,,,
Sliver Agent,,,,t13d190900_9dc949149365_97f8aa674fd9,t130200_1301_a56c5b993250,,,,,"two
lines"
IcedID,,,,,,ge11cn020000_9ed1ff1f7b03_cd8dafe26982,,,,
,,,Windows,,,,,64240_2-1-3-1-1-4_1460_8,,
,,Printer,,,,,,1*,,
,,,,t00d000000_000000000000_000000000000,,,,,,nobody
Scanner,,,,,,,,,1024_2_1460_00_1,
Server,,,,,t130100_1302_a56c5b993250,,,,,
SoftEther,,,,,,,d55f458d5a6c_d55f458d5a6c_0fc8c171b6ae,,,
`

const jsonDatabase = `[
 {"application": "Chromium, all", "library": null, "ja4_fingerprint": "t13d1516h2_8daaf6152771_02713d6af862",
  "observation_count": 7},
 {"application": "Edge", "ja4_fingerprint": " t13d1516h2_8daaf6152771_02713d6af862", "verified": true},
 {"application": null, "library": "GoLang", "ja4_fingerprint": "t13d190900_9dc949149365_97f8aa674fd9"},
 {"application": "Sliver Agent", "ja4_fingerprint": "t13d190900_9dc949149365_97f8aa674fd9",
  "ja4s_fingerprint": "t130200_1301_a56c5b993250"},
 {"application": "IcedID", "ja4h_fingerprint": "ge11cn020000_9ed1ff1f7b03_cd8dafe26982"},
 {"os": "Windows", "ja4t_fingerprint": "64240_2-1-3-1-1-4_1460_8"},
 {"device": "Printer", "ja4t_fingerprint": "1*"},
 {"user_agent_string": "Mozilla/5.0", "ja4_fingerprint": "t00d000000_000000000000_000000000000"},
 {"application": "Scanner", "ja4tscan_fingerprint": "1024_2_1460_00_1"},
 {"application": "Server", "ja4s_fingerprint": "t130100_1302_a56c5b993250"},
 {"application": "SoftEther", "ja4x_fingerprint": "d55f458d5a6c_d55f458d5a6c_0fc8c171b6ae"},
 null
]
`

func load(t testing.TB, content string) *List {
	t.Helper()
	l := NewDatabase(file(t, content), zap.NewNop())
	if err := l.Load(); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDatabaseShapes(t *testing.T) {
	lines := strings.NewReplacer("[\n", "", "]\n", "", "},\n", "}\n").Replace(jsonDatabase)
	for shape, content := range map[string]string{
		"CSV": csvDatabase, "CSV with a byte order mark": "\xef\xbb\xbf" + csvDatabase,
		"CSV of Windows": strings.ReplaceAll(csvDatabase, "\n", "\r\n"),
		"JSON":           jsonDatabase, "JSON, one record after the other": lines,
	} {
		t.Run(shape, func(t *testing.T) { checkDatabase(t, load(t, content)) })
	}
}

func checkDatabase(t *testing.T, l *List) {
	const head = "ge11cn020000_9ed1ff1f7b03_cd8dafe26982"
	for _, tc := range []struct{ method, value, ja4s, want string }{
		{"ja4", chromeHello, "", "Chromium, all or Edge"},
		{"ja4", chromeHello, sliverAnswer, "Chromium, all or Edge"},
		{"ja4", goHello, "", "GoLang"},
		{"ja4", goHello, "t130200_1302_a56c5b993250", "GoLang"},
		{"ja4", goHello, sliverAnswer, "Sliver Agent"},
		{"ja4s", sliverAnswer, "", ""}, // says nothing without the JA4
		{"ja4s", "t130100_1302_a56c5b993250", "", "Server"},
		{"ja4s", goHello, "", ""}, // of another method
		{"ja4h", head + "_000000000000", "", "IcedID"},
		{"ja4h", head + "f_000000000000", "", ""},
		{"ja4h", head, "", ""},
		{"ja4x", "d55f458d5a6c_d55f458d5a6c_0fc8c171b6ae", "", "SoftEther"},
		{"ja4t", "64240_2-1-3-1-1-4_1460_8", "", "Windows"},
		{"ja4t", "64240_2-1-3-1-1-4_1460_80", "", ""},
		{"ja4t", "1024_2_1460_00", "", "Printer"},
		{"ja4t", "", "", ""},
		{"ja4tscan", "1024_2_1460_00_1", "", ""},
		{"ja4", "t00d000000_000000000000_000000000000", "", ""},
	} {
		if got := l.Lookup(tc.method, tc.value, tc.ja4s); got != tc.want {
			t.Errorf("Lookup(%q, %q, %q) = %q, want %q", tc.method, tc.value, tc.ja4s, got, tc.want)
		}
	}
}

func TestLongestBeginningWins(t *testing.T) {
	l := load(t, "application,ja4\nany,t*\nhttp2,t13d1516h2*\nwhole,"+chromeHello+"\nhttp2 here,t13d1516h2_8daaf6152771\n")
	for value, want := range map[string]string{
		chromeHello:                            "whole",
		"t13d1516h2_8daaf6152771_000000000000": "http2 here",
		"t13d1516h2_000000000000_000000000000": "http2",
		goHello:                                "any",
		"q":                                    "",
	} {
		if got := l.Lookup("ja4", value, ""); got != want {
			t.Errorf("Lookup(%q) = %q, want %q", value, got, want)
		}
	}
}

func TestCaseDoesNotCount(t *testing.T) {
	l := load(t, "application,ja4,ja4s\none,T13D1516H2_8DAAF6152771*,\nboth,"+goHello+","+strings.ToUpper(sliverAnswer)+"\n")
	if got := l.Lookup("ja4", chromeHello, ""); got != "one" {
		t.Errorf("got %q, want one", got)
	}
	if got := l.Lookup("ja4", strings.ToUpper(goHello), sliverAnswer); got != "both" {
		t.Errorf("got %q, want both", got)
	}
}

func TestDatabaseRefuses(t *testing.T) {
	const header = "Application,ja4\n"
	long := strings.Repeat("x", 257)
	for _, tc := range []struct{ name, content, want string }{
		{"nothing", "", "header line: EOF"},
		{"no column of fingerprints", "Application,Notes\na,b\n", "line 1: want a header"},
		{"no column of names", "Notes,ja4\na,b\n", "line 1: want a header"},
		{"a field too many", header + "a,b\na,b,c\n", "line 3: 3 fields, where the header line has 2"},
		{"a field too few", header + "a,b\n\na\n", "line 4: 1 fields, where the header line has 2"},
		{"a quote inside", header + "a,b\na\"b,c\n", "line 3"},
		{"a name with an escape", header + "a,b\n\x1b[2J,c\n", `line 3: the text "\x1b[2J" is not of printable characters`},
		{"a name in another direction", header + "\u202egnp.exe,c\n", `line 2: the text "\u202egnp.exe"`},
		{"a name that is not UTF-8", header + "\xff,c\n", `line 2: the text "\xff"`},
		{"a long name", header + long + ",c\n", "line 2: a text has more than 256 bytes"},
		{"a long fingerprint", header + "a," + long + "\n", "line 2: a fingerprint has more than 256 bytes"},
		{"a fingerprint with a blank", header + "a,b c\n", `line 2: the fingerprint "b c" is not of printable ASCII`},
		{"any fingerprint", header + "a,*\n", `line 2: "*" is no fingerprint`},
		{"an array without an end", `[{"os":"a"}`, "record 1, by line 1: "},
		{"an array with more behind", "[]\n[]", "record 0, by line 2: want nothing but records"},
		{"half a record", "[{},\n{\"os\":", "record 2, by line "},
		{"a number for a name", "[{},\n{\"os\":1}]", "record 2, by line 2: json: cannot unmarshal number"},
		{"a list for a record", "[[]]", "record 1, by line 1: json: cannot unmarshal array"},
		{"a name with a line break", `[{"os":"a\nb","ja4_fingerprint":"a"}]`, "record 1, by line 1: the text"},
		{"an object around the records", `{"records":[{"os":"a","ja4_fingerprint":"a"}]}`, "want records with members"},
		{"records without names", `[{"ja4_fingerprint":"a"},null]`, "want records with members"},
		{"a record that ends twice", "{}}", "record 1, by line 1: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := file(t, tc.content)
			prefix := "read AGENT_FINGERPRINT_DB: " + path + ": "
			err := NewDatabase(path, zap.NewNop()).Load()
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), prefix) {
				t.Errorf("got %v, want %s… %s", err, prefix, tc.want)
			}
		})
	}
}

func TestNamesOfOneFingerprintAreBounded(t *testing.T) {
	var rows strings.Builder
	rows.WriteString("os,ja4\n")
	for i := range 10_000 {
		fmt.Fprintf(&rows, "name %d,%s\n", i, chromeHello)
	}
	got := load(t, rows.String()).Lookup("ja4", chromeHello, "")
	if !strings.HasPrefix(got, "name 0 or name 1 or ") || len(got) > maxJoined || len(got) < maxJoined-20 {
		t.Errorf("%d bytes of names, %q, want the first of them in %d", len(got), got, maxJoined)
	}
}

func TestTooManyRows(t *testing.T) {
	content := "os,ja4\n" + strings.Repeat(",\n", maxEntries+1)
	err := NewDatabase(file(t, content), zap.NewNop()).Load()
	if err == nil || !strings.Contains(err.Error(), "line 1000002: there are more than 1000000 rows") {
		t.Errorf("got %v, want line 1000002 to be too much", err)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	l := load(t, csvDatabase)
	if n := testing.AllocsPerRun(100, func() { l.Lookup("ja4", goHello, sliverAnswer) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	var rows strings.Builder
	rows.WriteString("application,ja4,ja4s\na program,t13d1517*,\n")
	for i := range 100_000 {
		fmt.Fprintf(&rows, "program %d,t13d1516h2_%012x_02713d6af862,\n", i, i)
	}
	l := load(b, rows.String())
	for name, value := range map[string]string{
		"whole":     "t13d1516h2_00000000ffff_02713d6af862",
		"beginning": "t13d1517h2_00000000ffff_02713d6af862",
		"unknown":   goHello,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.Lookup("ja4", value, sliverAnswer)
			}
		})
	}
}
