// Command bench runs weir's benchmarks and prints their medians as the tables of docs/benchmarks.md, beside what each is to
// stay under. What the benchmarks printed goes to a file that benchstat reads.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	count := flag.Int("count", 5, "how often each benchmark runs")
	raw := flag.String("raw", "bin/bench.txt", "`file` for what they print")
	document := flag.String("document", "", "`file` whose tables are replaced")
	flag.Parse()
	if err := os.MkdirAll(filepath.Dir(*raw), 0o755); err != nil {
		return err
	}
	file, err := os.Create(*raw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var printed bytes.Buffer
	for _, s := range suites {
		if err := s.run(ctx, *count, io.MultiWriter(file, os.Stderr, &printed)); err != nil {
			return err
		}
	}
	figures, err := read(&printed)
	if err != nil {
		return err
	}
	tables := render(figures, *count)
	if _, err := os.Stdout.Write(tables); err != nil || *document == "" {
		return err
	}
	return replaceTables(*document, tables)
}

// suite is a set of benchmarks that run in the same way.
type suite struct {
	packages []string
	time     string // how long each runs, or how often: 1x
}

var suites = []suite{
	{[]string{"./internal/datapath", "./internal/e2e"}, "1x"}, // each repeats what it measures
	{[]string{
		"./internal/flow", "./internal/collect", "./internal/deliver", "./internal/spool", "./internal/fingerprint", "./internal/identify",
	}, "1s"},
}

func (s suite) run(ctx context.Context, count int, out io.Writer) error {
	args := []string{"test", "-run", "^$", "-bench", ".", "-benchtime", s.time, "-count", strconv.Itoa(count), "-timeout", "1h", "-p", "1"}
	cmd := exec.CommandContext(ctx, "go", append(args, s.packages...)...)
	cmd.Env = append(os.Environ(), "CI=true") // where BPF is refused, that is an error
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run the benchmarks of %v: %w", s.packages, err)
	}
	return nil
}

// replaceTables puts tables where a document has its own.
func replaceTables(path string, tables []byte) error {
	const begin, end = "<!-- tables -->\n", "<!-- end of tables -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return fmt.Errorf("%s: there is no %q with %q behind it", path, begin, end)
	}
	text = bytes.Join([][]byte{before, []byte(begin), tables, []byte(end), after}, nil)
	return os.WriteFile(path, text, 0o644)
}
