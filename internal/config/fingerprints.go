package config

import (
	"slices"
	"strings"

	"weir/internal/flow"
)

// Fingerprints are the methods that events carry, in their order. It is nil if there are none.
type Fingerprints []flow.Method

// parseFingerprints reads "none", or a list of methods with commas between, where "all" is every one but the raw forms.
func parseFingerprints(text string) (Fingerprints, bool) {
	if strings.EqualFold(text, "none") {
		return nil, true
	}
	var list Fingerprints
	for name := range strings.SplitSeq(text, ",") {
		methods, ok := methodsNamed(strings.ToLower(strings.TrimSpace(name)))
		if !ok || slices.ContainsFunc(methods, func(m flow.Method) bool { return slices.Contains(list, m) }) {
			return nil, false
		}
		list = append(list, methods...)
	}
	slices.Sort(list)
	return list, true
}

func methodsNamed(name string) (Fingerprints, bool) {
	if name != "all" {
		method, ok := flow.MethodNamed(name)
		return Fingerprints{method}, ok
	}
	isRaw := func(method flow.Method) bool { return method.Hashed() != method }
	return slices.DeleteFunc(flow.Methods(), isRaw), true
}

// fingerprints says what a list of methods may have, and reads it.
func fingerprints() kind[Fingerprints] {
	var names []string
	for _, method := range flow.Methods() {
		names = append(names, method.String())
	}
	last := len(names) - 1
	list := strings.Join(names[:last], ", ") + " and " + names[last]
	return free("none, all, or any of "+list+", comma-separated, beside all only raw forms", parseFingerprints)
}
