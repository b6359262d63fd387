package deliver

import (
	"net/url"
	"testing"
)

// TestWhere: the log names the endpoint, and that there is a path, but nothing that may be a secret.
func TestWhere(t *testing.T) {
	for text, want := range map[string]string{
		"http://brain:8000/ingest":           "http://brain:8000/...",
		"https://user:secret@brain/a?key=s#": "https://brain/...",
		"http://[::1]:80":                    "http://[::1]:80",
		"http://brain/":                      "http://brain",
	} {
		to, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Config{URL: to}).where(); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}
