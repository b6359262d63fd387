package e2e

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadmeMetrics: the section "Metrics" of README.md names the metrics that weir has, all of them and no others.
func TestReadmeMetrics(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "\n## Metrics\n")
	if !ok {
		t.Fatal(`README.md has no heading "## Metrics"`)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	told := find(section, regexp.MustCompile(`\b(weir_\w+)`))

	p := newPair(t)
	_, text, err := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_SPOOL_DIR="+t.TempDir()).get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	had := find(text, regexp.MustCompile(`(?m)^# TYPE (weir_\w+) `))
	for _, name := range slices.Sorted(maps.Keys(had)) {
		if !told[name] {
			t.Errorf("README.md does not tell of %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if !had[name] {
			t.Errorf("README.md tells of %s, which weir does not have", name)
		}
	}
}

// find returns what the pattern's group matched in the text.
func find(text string, pattern *regexp.Regexp) map[string]bool {
	found := map[string]bool{}
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		found[match[1]] = true
	}
	return found
}
