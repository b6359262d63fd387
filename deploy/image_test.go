package deploy_test

import (
	"regexp"
	"strings"
	"testing"
)

// find returns what the pattern's one group matches.
func find(t *testing.T, path, pattern string) string {
	t.Helper()
	match := regexp.MustCompile(`(?m)` + pattern).FindSubmatch(readFile(t, path))
	if match == nil {
		t.Fatalf("%s has nothing like %s", path, pattern)
	}
	return string(match[1])
}

func TestDockerfile(t *testing.T) {
	const path = "../Dockerfile"
	equal(t, "the builder's Go", find(t, path, `^FROM golang:([0-9.]+)-\w+ AS build$`), find(t, "../go.mod", `^toolchain go(.+)$`))
	equal(t, "the binary's capabilities", find(t, path, `setcap (\S+)=ep bin/weir$`),
		"cap_"+strings.ToLower(strings.Join(capabilities, ",cap_")))

	_, final, ok := strings.Cut(string(readFile(t, path)), "\nFROM scratch\n")
	if !ok || strings.Contains(final, "\nFROM ") {
		t.Error("the last stage is not the empty image")
	}
	if regexp.MustCompile(`(?m)^COPY .*--chown.*bin/weir`).MatchString(final) {
		t.Error("a change of the owner takes the capabilities off the binary")
	}
	equal(t, "the owner of what a volume is mounted on", find(t, path, `^COPY --from=build --chown=(\S+) /state /$`), find(t, path, `^USER (\S+)$`))
}
