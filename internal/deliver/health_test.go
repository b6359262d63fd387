package deliver

import (
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	tests := map[string]string{
		"":                             "",
		"dial tcp: connection refused": "dial tcp: connection refused",
		"größe":                        "größe",
		"a\nb":                         `"a\nb"`,
		"\x1b[2J":                      `"\x1b[2J"`,
		"\xff":                         `"\xff"`,
		"a\u202eb":                     `"a\u202eb"`, // turns the writing direction
		strings.Repeat("x", 513):       strings.Repeat("x", 512),
		strings.Repeat("x", 511) + "é": `"` + strings.Repeat("x", 511) + `\xc3"`,
	}
	for text, want := range tests {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %s, want %s", text, got, want)
		}
	}
}
