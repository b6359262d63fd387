// Package deploy_test keeps what is shipped for deployment in step with the program: the settings that it names exist,
// the probes have an answer, and the privileges are the same three capabilities everywhere.
package deploy_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/internal/config"
)

// capabilities are what weir needs, in the order in which they are written everywhere.
var capabilities = []string{"BPF", "NET_ADMIN", "PERFMON"}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decode reads a file with one YAML document. A key that T does not have fails the test: it is misspelt, or new, and
// then T has to learn it.
func decode[T any](t *testing.T, path string) T {
	t.Helper()
	var document T
	decoder := yaml.NewDecoder(bytes.NewReader(readFile(t, path)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&document); err != nil {
		t.Fatalf("decode %s: %v", path, err)
	}
	if err := decoder.Decode(new(yaml.Node)); err != io.EOF {
		t.Fatalf("decode %s: more than one document, or a bad one: %v", path, err)
	}
	return document
}

// envFile reads a file of NAME=VALUE lines. Its comments are prose, but for "#NAME=VALUE" without a space: a setting
// that stands there with its default.
func envFile(t *testing.T, path string) (set, defaults []string) {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, path))) {
		line = strings.TrimSpace(line)
		text, commented := strings.CutPrefix(line, "#")
		switch {
		case line == "" || commented && (text == "" || strings.HasPrefix(text, " ")):
		case !strings.Contains(text, "="):
			t.Fatalf("%s: %q is no setting", path, line)
		case commented:
			defaults = append(defaults, text)
		default:
			set = append(set, text)
		}
	}
	return set, defaults
}

// settings are what the program makes of an environment. Variables that it does not know, or knows to be without
// effect, fail the test; that the Brain's address is an example, without TLS, does not.
func settings(t *testing.T, environ []string) config.Settings {
	t.Helper()
	invocation, err := config.Parse([]string{"run"}, environ, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, notice := range invocation.Notices {
		if !strings.Contains(notice, "plain http://") {
			t.Fatal(notice)
		}
	}
	return invocation.Settings
}

// TestEnvFiles holds that what is commented out in the files of settings is allowed, and is the default.
func TestEnvFiles(t *testing.T) {
	for _, path := range []string{"systemd/weir.env", "kubernetes/settings.env"} {
		t.Run(path, func(t *testing.T) {
			set, defaults := envFile(t, path)
			if len(defaults) == 0 {
				t.Fatal("no defaults are shown")
			}
			got, want := settings(t, slices.Concat(set, defaults)), settings(t, set)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("with what is commented out:\n%+v\nwithout:\n%+v", got, want)
			}
			if want.EndpointURL.URL == nil {
				t.Error("events go into the log: the file sets no Brain")
			}
		})
	}
}

// TestNamedVariables holds that every variable that any of the files speaks of, comments included, is a setting or was
// one of go-Tracer.
func TestNamedVariables(t *testing.T) {
	name := regexp.MustCompile(`\bAGENT_[A-Z_]+`)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) == ".go" {
			return err
		}
		for _, variable := range name.FindAllString(string(readFile(t, path)), -1) {
			// Most settings cannot be "x": of those the error is another.
			_, err := config.Parse([]string{"run"}, []string{variable + "=x"}, io.Discard)
			if err != nil && strings.Contains(err.Error(), "is not a setting") {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkStop holds that who runs weir waits longer for its end than weir takes at most, and some seconds for the rest.
func checkStop(t *testing.T, grace time.Duration, s config.Settings) {
	t.Helper()
	if least := s.StopTimeout + 5*time.Second; grace < least {
		t.Errorf("weir is killed %s after it was told to stop, want %s at least", grace, least)
	}
}

// checkMemory holds that the limit has room for the kernel's maps and for all that Go may take. Both limits are in MiB.
func checkMemory(t *testing.T, limit, goLimit int, s config.Settings) {
	t.Helper()
	const (
		entry   = 162 // bytes: a slot of the table and a quarter, each with its tag
		samples = 270 // bytes: what is remembered for fingerprints, beside a slot and a quarter
		rings   = 20  // MiB
		rest    = 32  // MiB: stacks, socket buffers, pages of the binary
	)
	least := int(s.MaxFlows)*(entry+samples)>>20 + rings + goLimit + rest
	if limit < least {
		t.Errorf("the memory limit is %d MiB, want %d at least", limit, least)
	}
	if queue := int(s.QueueMaxBytes >> 20); goLimit < 3*queue {
		t.Errorf("Go may have %d MiB, want three times the queue of %d MiB, for its collector to have room", goLimit, queue)
	}
}

// mebibytes reads a size such as "320Mi", whose unit is written in the way of who reads it.
func mebibytes(t *testing.T, text, unit string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(text, unit))
	if err != nil || !strings.HasSuffix(text, unit) {
		t.Fatalf("size %q: want a number of %s", text, unit)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}
