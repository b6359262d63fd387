package config

import (
	"path"
	"strings"
	"unicode"
)

// InterfaceMode is how interfaces are chosen.
type InterfaceMode uint8

// The values of InterfaceMode.
const (
	InterfacesAuto  InterfaceMode = iota // those of the default routes
	InterfacesAll                        // every one but loopback
	InterfacesNamed                      // those that Patterns name
)

// Interfaces says which interfaces to watch.
type Interfaces struct {
	Mode     InterfaceMode
	Patterns []string // for path.Match; at least one in InterfacesNamed, else none
}

// parseInterfaces reads "auto", "all", or a list of names and globs with commas between.
func parseInterfaces(text string) (Interfaces, bool) {
	switch strings.ToLower(text) {
	case "auto":
		return Interfaces{Mode: InterfacesAuto}, true
	case "all":
		return Interfaces{Mode: InterfacesAll}, true
	}
	patterns := strings.Split(text, ",")
	for i := range patterns {
		patterns[i] = strings.TrimSpace(patterns[i])
		if !isInterfacePattern(patterns[i]) {
			return Interfaces{}, false
		}
	}
	return Interfaces{Mode: InterfacesNamed, Patterns: patterns}, true
}

// isInterfacePattern follows the kernel's dev_valid_name (net/core/dev.c): a name has 1 to 15 bytes, none of them a
// slash, a colon or white space, and is not a dot or two. A glob may be longer than what it matches.
func isInterfacePattern(pattern string) bool {
	switch strings.ToLower(pattern) {
	case "", ".", "..", "auto", "all": // the last two stand alone or not at all
		return false
	}
	if strings.ContainsAny(pattern, "/:") || strings.ContainsFunc(pattern, unicode.IsSpace) {
		return false
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return false
	}
	const longest = 15 // IFNAMSIZ less the final zero
	return len(pattern) <= longest || IsGlob(pattern)
}

// IsGlob says whether a pattern may match more than itself.
func IsGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }
