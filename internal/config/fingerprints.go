package config

import (
	"slices"
	"strings"

	"weir/internal/flow"
)

// Fingerprints are the methods that events carry, in their order. It is nil if there are none.
type Fingerprints []flow.Method

// parseFingerprints reads "none", "all", which leaves raw forms out, or a list of methods with commas between.
func parseFingerprints(text string) (Fingerprints, bool) {
	var list Fingerprints
	switch strings.ToLower(text) {
	case "none":
		return nil, true
	case "all":
		for _, method := range flow.Methods() {
			if method.Hashed() == method {
				list = append(list, method)
			}
		}
		return list, true
	}
	for name := range strings.SplitSeq(text, ",") {
		method, ok := flow.MethodNamed(strings.ToLower(strings.TrimSpace(name)))
		if !ok || slices.Contains(list, method) {
			return nil, false
		}
		list = append(list, method)
	}
	slices.Sort(list)
	return list, true
}

// fingerprints says what a list of methods may have, and reads it.
func fingerprints() kind[Fingerprints] {
	var names []string
	for _, method := range flow.Methods() {
		names = append(names, method.String())
	}
	last := len(names) - 1
	return free("none, all, or any of "+strings.Join(names[:last], ", ")+" and "+names[last]+", comma-separated", parseFingerprints)
}
