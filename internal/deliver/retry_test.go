package deliver

import (
	"net/http"
	"testing"
	"time"
)

var retryAfterNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestParseRetryAfter(t *testing.T) {
	tests := []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"7", 7 * time.Second},
		{" 7\t", 7 * time.Second},
		{"300", 5 * time.Minute},
		{"301", 5 * time.Minute},
		{"1000000000", 5 * time.Minute},
		{"99999999999999999999999999", 5 * time.Minute},
		{"-7", 0},
		{"+7", 0},
		{"7.5", 0},
		{"1e3", 0},
		{"soon", 0},
		{"٧", 0},
		{retryAfterNow.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		{"Friday, 20-Nov-26 12:00:30 GMT", 30 * time.Second}, // the obsolete forms are to be read too
		{"Fri Nov 20 12:00:30 2026", 30 * time.Second},
		{retryAfterNow.Add(-time.Hour).Format(http.TimeFormat), 0},
		{retryAfterNow.AddDate(500, 0, 0).Format(http.TimeFormat), 5 * time.Minute},
		{"Fri, 20 Nov 2026 25:00:00 GMT", 0},
	}
	for _, test := range tests {
		if got := parseRetryAfter(test.value, retryAfterNow); got != test.want {
			t.Errorf("parseRetryAfter(%q) = %s, want %s", test.value, got, test.want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "99999999999999999999", "-1", "Fri, 20 Nov 2026 12:00:30 GMT", "\x00", "1 2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := parseRetryAfter(value, retryAfterNow)
		if got < 0 || got > maxRetryAfter {
			t.Errorf("parseRetryAfter(%q) = %s", value, got)
		}
		if _, err := http.ParseTime(value); err != nil && got != 0 && got%time.Second != 0 {
			t.Errorf("parseRetryAfter(%q) = %s, neither a date nor whole seconds", value, got)
		}
	})
}

// Full jitter: from 0 to the ceiling, evenly.
func TestBackoffSpreads(t *testing.T) {
	const draws = 2000
	tests := []struct {
		tries          int
		after, ceiling time.Duration
	}{
		{0, 0, 100 * time.Millisecond},
		{3, 0, 800 * time.Millisecond},
		{9, 0, 10 * time.Second},
		{1000, 0, 10 * time.Second},
		{0, 40 * time.Second, 5 * time.Second},
	}
	for _, test := range tests {
		low, high := time.Duration(1<<62), time.Duration(0)
		for range draws {
			b := backoff{tries: min(test.tries, 10)}
			wait := b.next(test.after) - test.after
			low, high = min(low, wait), max(high, wait)
		}
		if low < 0 || low > test.ceiling/20 || high >= test.ceiling || high < test.ceiling*19/20 {
			t.Errorf("after %d tries: waits from %s to %s, want 0 to %s", test.tries, low, high, test.ceiling)
		}
	}
}
