package config

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestCredentialsOverPlainHTTP(t *testing.T) {
	const token, certificate, insecure = "AGENT_TOKEN_FILE=/t", "AGENT_TLS_CERT_FILE=/c", "AGENT_INSECURE_HTTP=true"
	tests := []struct {
		url     string
		environ []string
		refused string // part of the error
		warned  bool
	}{
		{"http://brain/i", nil, "", true},
		{"http://127.0.0.1:8000/i", nil, "", false},
		{"https://brain/i", nil, "", false},
		{"stdout", []string{token}, "", false},
		{"https://brain/i", []string{token, certificate}, "", false},
		{"https://me:secret@brain/i", nil, "", false},
		{"http://127.1.2.3/i", []string{token, certificate}, "", false},
		{"http://[::1]:8000/i", []string{token}, "", false},
		{"http://LOCALHOST/i", []string{token}, "", false},
		{"http://brain/i", []string{token}, "AGENT_INSECURE_HTTP=true", false},
		{"http://brain/i", []string{certificate}, "AGENT_INSECURE_HTTP=true", false},
		{"http://me:secret@brain/i", nil, "AGENT_INSECURE_HTTP=true", false},
		{"http://127.0.0.1.example/i", []string{token}, "AGENT_INSECURE_HTTP=true", false},
		{"http://brain/i", []string{token, certificate, insecure}, "", true},
		{"https://me:secret@brain/i", []string{token}, "want one of them", false},
	}
	for _, test := range tests {
		got, err := Parse(nil, append(test.environ, "AGENT_ENDPOINT_URL="+test.url), io.Discard)
		if text := fmt.Sprint(err); (err != nil) != (test.refused != "") || !strings.Contains(text, test.refused) || strings.Contains(text, "secret") {
			t.Errorf("%s with %q: %v, want %q", test.url, test.environ, err, test.refused)
		}
		if warned := strings.Contains(fmt.Sprint(got.Notices), "plain http://"); warned != test.warned {
			t.Errorf("%s with %q: notices %q, want one: %v", test.url, test.environ, got.Notices, test.warned)
		}
	}
}

// Whoever prints the settings does not print what is secret in them.
func TestSettingsPrintNoSecrets(t *testing.T) {
	got := parseRun(t, []string{"--endpoint-url=https://me:hunter2@brain:1/hooks/hunter3?key=hunter4"}, nil)
	for _, format := range []string{"%v", "%+v", "%s"} {
		text := fmt.Sprintf(format, got)
		if strings.Contains(text, "hunter") || !strings.Contains(text, "https://brain:1") {
			t.Errorf("%s prints %s", format, text)
		}
	}
}
