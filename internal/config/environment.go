package config

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// prefix begins the variables that are weir's, and go-Tracer's before it.
const prefix = "AGENT_"

// environment holds the variables that are set to something, trimmed of surrounding space.
type environment map[string]string

func newEnvironment(environ []string) environment {
	env := environment{}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if text = strings.TrimSpace(text); name != "" && text != "" {
			env[name] = text
		}
	}
	return env
}

// resolve is a kong.ResolverFunc. Kong's own "env" tag is not used: it reads the process's environment.
func (e environment) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	name := flag.Tag.Get("var")
	if text, ok := e[name]; ok {
		return given{name, text}, nil
	}
	return nil, nil
}

// check looks at the variables that have the prefix and are no settings. It returns what the log should say of those
// accepted without effect, or an error for the first that is not accepted.
func (e environment) check(known []string) (notices []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if !strings.HasPrefix(name, prefix) || slices.Contains(known, name) || isFromKubernetes(name) {
			continue
		}
		switch name {
		case "AGENT_SNAP_LEN":
			notices = append(notices, "AGENT_SNAP_LEN has no effect: weir copies no packets, it counts each whole, in the kernel")
		case "AGENT_PROMISCUOUS":
			notices = append(notices, "AGENT_PROMISCUOUS has no effect: weir counts what an interface receives and does not change its mode")
		default:
			return nil, unknownVariable(name, known)
		}
	}
	return notices, nil
}

// isFromKubernetes reports whether Kubernetes sets a variable of that name for a Service called "agent"
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
func isFromKubernetes(name string) bool {
	return slices.ContainsFunc([]string{
		"AGENT_SERVICE_HOST", "AGENT_SERVICE_PORT*",
		"AGENT_PORT", "AGENT_PORT_*_TCP*", "AGENT_PORT_*_UDP*", "AGENT_PORT_*_SCTP*",
	}, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // fails for a bad pattern only
		return ok
	})
}

// unknownVariable says that name is no setting and which of the known ones may have been meant. The value is left out:
// it may be a secret.
func unknownVariable(name string, known []string) error {
	const most = 4 // edits; and never more than half of what follows the prefix
	nearest, least := "", min(most, (len(name)-len(prefix))/2)+1
	for _, candidate := range known {
		if d := editDistance(name, candidate); d < least {
			nearest, least = candidate, d
		}
	}
	hint := "see weir --help"
	if nearest != "" {
		hint = "did you mean " + nearest + "?"
	}
	return fmt.Errorf("%.64s is not a setting; %s", printable(name), hint)
}

// editDistance is the Levenshtein distance of two strings, in bytes (Wagner and Fischer, 1974).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // distances of the part of a that is done to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
