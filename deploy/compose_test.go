package deploy_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// composeFile has the keys of the Compose Specification that are in use.
type composeFile struct {
	Services map[string]struct {
		Image           string
		Build           string
		Restart         string
		NetworkMode     string `yaml:"network_mode"`
		Environment     map[string]string
		CapDrop         []string `yaml:"cap_drop"`
		CapAdd          []string `yaml:"cap_add"`
		SecurityOpt     []string `yaml:"security_opt"`
		ReadOnly        bool     `yaml:"read_only"`
		MemLimit        string   `yaml:"mem_limit"`
		Volumes         []string
		StopGracePeriod string `yaml:"stop_grace_period"`
	}
	Volumes map[string]struct{}
}

// variable is "${NAME:-default}".
var variable = regexp.MustCompile(`\$\{([A-Z_]+):-([^}]*)\}`)

func TestCompose(t *testing.T) {
	file := decode[composeFile](t, "compose.yaml")
	weir := file.Services["weir"]
	equal(t, "network_mode", weir.NetworkMode, "host")
	equal(t, "cap_drop", weir.CapDrop, []string{"ALL"})
	equal(t, "cap_add", weir.CapAdd, capabilities)
	equal(t, "security_opt", weir.SecurityOpt, []string{"no-new-privileges:true"})
	equal(t, "read_only", weir.ReadOnly, true)

	var environ, names []string
	for name, text := range weir.Environment {
		environ = append(environ, name+"="+variable.ReplaceAllString(text, "$2"))
		if taken := variable.FindStringSubmatch(text); taken != nil {
			equal(t, "the variable that "+name+" is taken from", taken[1], name)
			names = append(names, name)
		}
	}
	for _, name := range []string{"AGENT_INTERFACE", "AGENT_ENDPOINT_URL", "AGENT_BATCH_SIZE", "AGENT_SEND_INTERVAL"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s, which go-Tracer has, cannot be set from outside", name)
		}
	}
	s := settings(t, environ)
	checkStop(t, duration(t, weir.StopGracePeriod), s)
	volume, mounted, _ := strings.Cut(strings.Join(weir.Volumes, " "), ":")
	if _, ok := file.Volumes[volume]; !ok || filepath.Dir(s.SpoolDir) != mounted {
		t.Errorf("the spool is in %s, and the volumes are %q of %v", s.SpoolDir, weir.Volumes, file.Volumes)
	}
	checkMemory(t, mebibytes(t, weir.MemLimit, "m"), mebibytes(t, weir.Environment["GOMEMLIMIT"], "MiB"), s)
}
