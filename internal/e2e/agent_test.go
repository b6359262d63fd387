package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// binary is the weir that is tested.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if binary = os.Getenv("WEIR_BINARY"); binary != "" { // where there is no compiler
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "weir-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // one test runs it as somebody else
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "weir")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "weir/cmd/weir")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build weir: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const metricsAddr = "127.0.0.1:9478"

// agent is a running weir.
type agent struct {
	namespace *testnet.Namespace
	cmd       *exec.Cmd
	stdout    output
	stderr    output
	ended     chan struct{}
	err       error // of Wait, once ended is closed
}

// output collects what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// launch starts weir in a namespace with "NAME=VALUE" settings. It does not wait for anything.
func launch(t testing.TB, namespace *testnet.Namespace, settings ...string) *agent {
	t.Helper()
	return launchBy(t, namespace, exec.Command(binary), settings...)
}

// launchBy starts weir through another command.
func launchBy(t testing.TB, namespace *testnet.Namespace, cmd *exec.Cmd, settings ...string) *agent {
	t.Helper()
	a := &agent{namespace: namespace, cmd: cmd, ended: make(chan struct{})}
	a.cmd.Env = append([]string{"NODE_NAME=node-1"}, settings...)
	a.cmd.Stdout, a.cmd.Stderr = &a.stdout, &a.stderr
	if err := namespace.Do(a.cmd.Start); err != nil {
		t.Fatal(err)
	}
	go func() {
		a.err = a.cmd.Wait()
		close(a.ended)
	}()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.ended
		if t.Failed() {
			t.Logf("weir printed:\n%s", a.stderr.String())
		}
	})
	return a
}

// start launches weir and waits until it is ready.
func start(t testing.TB, namespace *testnet.Namespace, settings ...string) *agent {
	t.Helper()
	a := launch(t, namespace, settings...)
	a.ready(t)
	return a
}

// ready waits until weir is.
func (a *agent) ready(t testing.TB) {
	t.Helper()
	testnet.Eventually(t, "weir is ready", func() bool {
		if a.over() {
			t.Fatalf("weir ended: %v\n%s", a.err, a.stderr.String())
		}
		status, _, err := a.get("/readyz")
		return err == nil && status == http.StatusOK
	})
}

// over says whether weir has ended.
func (a *agent) over() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// get reads from weir's own server.
func (a *agent) get(path string) (status int, body string, err error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = a.namespace.Do(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}
	client := http.Client{Transport: transport, Timeout: 5 * time.Second}
	response, err := client.Get("http://" + metricsAddr + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// metric returns a counter or gauge; series is "name" or `name{label="value"}`, with the labels in order.
func (a *agent) metric(t testing.TB, series string) float64 {
	t.Helper()
	_, text, err := a.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	value, err := findMetric(text, series)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func findMetric(text, series string) (float64, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("parse metrics: %w", err)
	}
	name, _, _ := strings.Cut(series, "{")
	for _, m := range families[name].GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
		full := name
		if len(labels) > 0 {
			full += "{" + strings.Join(labels, ",") + "}"
		}
		if full == series {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue(), nil
		}
	}
	return 0, fmt.Errorf("there is no metric %s", series)
}

// terminate asks weir to stop, and fails the test unless it does so, and is content.
func (a *agent) terminate(t testing.TB) {
	t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wait(t, 2*time.Minute)
	if a.err != nil {
		t.Fatalf("weir ended badly: %v\n%s", a.err, a.stderr.String())
	}
}

// wait waits for weir to end.
func (a *agent) wait(t testing.TB, patience time.Duration) {
	t.Helper()
	select {
	case <-a.ended:
	case <-time.After(patience):
		t.Fatalf("weir has not ended after %s", patience)
	}
}

// exitCode is known when weir has ended.
func (a *agent) exitCode() int {
	var exit *exec.ExitError
	if errors.As(a.err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// brainIn starts a Brain on a namespace's loopback.
func brainIn(t testing.TB, namespace *testnet.Namespace, options testbrain.Options) *testbrain.Brain {
	t.Helper()
	options.Listen = func(network, addr string) (l net.Listener, err error) {
		err = namespace.Do(func() error {
			l, err = net.Listen(network, addr)
			return err
		})
		return l, err
	}
	return testbrain.New(t, options)
}
