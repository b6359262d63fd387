package main

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/sys/unix"
)

// figure names what a benchmark measures.
type figure struct{ benchmark, unit string }

// figures are what all runs of the benchmarks measured, and on what processor.
type figures struct {
	processor string
	values    map[figure][]float64
}

// read reads what go test prints.
func read(printed io.Reader) (*figures, error) {
	f := &figures{values: map[figure][]float64{}}
	reader := benchfmt.NewReader(printed, "benchmarks")
	for reader.Scan() {
		switch r := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, r
		case *benchfmt.Result:
			f.processor = r.GetConfig("cpu")
			name := string(r.Name.Full())
			if i := strings.LastIndexByte(name, '-'); i >= 0 {
				name = name[:i] // the number of CPUs
			}
			for _, v := range r.Values {
				key := figure{name, v.Unit}
				value := v.Value
				if v.OrigUnit != "" {
					key.unit, value = v.OrigUnit, v.OrigValue
				}
				f.values[key] = append(f.values[key], value)
			}
		}
	}
	return f, reader.Err()
}

// render writes the tables in Markdown: of each figure the median, the least and the greatest.
func render(f *figures, count int) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s, %d CPUs, Linux %s, %s; medians of %d, and the least and the greatest.\n",
		f.processor, runtime.NumCPU(), kernelRelease(), runtime.Version(), count)
	for _, t := range tables {
		fmt.Fprintf(&out, "\n### %s\n\n| | median | from – to | at most | empty program |\n|---|---|---|---|---|\n", t.title)
		for _, r := range t.rows {
			r.render(&out, f)
		}
	}
	return out.Bytes()
}

func (r row) render(out io.Writer, f *figures) {
	values := slices.Sorted(slices.Values(f.values[figure{r.benchmark, r.unit}]))
	if len(values) == 0 {
		fmt.Fprintf(out, "| %s | not measured | | | |\n", r.what)
		return
	}
	bound, beside := "", ""
	if r.atMost > 0 {
		bound = number(r.atMost)
	}
	if of := f.values[figure{r.benchmark, empty}]; r.unit == aboveEmpty && len(of) > 0 {
		beside = number(median(of))
	}
	fmt.Fprintf(out, "| %s | %s %s | %s – %s | %s | %s |\n", r.what, number(median(values)), unitName(r.unit),
		number(values[0]), number(values[len(values)-1]), bound, beside)
}

// unitName is how people write a unit: what it is of, the row says.
func unitName(unit string) string {
	if strings.HasPrefix(unit, "events/s") {
		return "a second"
	}
	unit, _, _ = strings.Cut(unit, "/")
	for _, prefix := range []string{"p50-", "p99-", "peak-"} {
		unit = strings.TrimPrefix(unit, prefix)
	}
	switch unit {
	case "times-one-CPU":
		return "×"
	case "%-of-a-CPU", "%-lost":
		return "%"
	case verified, codeBytes, "packets-missing":
		return ""
	}
	return unit
}

func median(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// number writes a figure with three digits that say something.
func number(v float64) string {
	switch {
	case v >= 1e5:
		return fmt.Sprintf("%.3g million", v/1e6)
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(name.Release[:])
}
