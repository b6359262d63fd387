package known

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parseCSV reads the shape of FoxIO's ja4plus-mapping.csv: a header line with the columns Application, Library, Device, OS
// and one for each method, in any order and case. Columns of other names are passed over.
func parseCSV(content []byte) (*table, error) {
	reader := csv.NewReader(bytes.NewReader(content))
	reader.ReuseRecord = true
	header, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header line: %w", err)
	}
	columns := make(map[string]int, len(header))
	for i, name := range header {
		columns[strings.ToLower(strings.TrimSpace(name))] = i
	}
	if !hasAny(columns, methods[:]) || !hasAny(columns, []string{"application", "library", "device", "os"}) {
		return nil, errors.New("line 1: want a header with columns such as Application and ja4")
	}
	t := newTable()
	for {
		row, err := reader.Read()
		switch {
		case err == io.EOF:
			return t, nil
		case errors.Is(err, csv.ErrFieldCount):
			line, _ := reader.FieldPos(0)
			return nil, fmt.Errorf("line %d: %d fields, where the header line has %d", line, len(row), len(header))
		case err != nil:
			return nil, err // which names the line
		}
		if err := t.addEntry(rowEntry(row, columns)); err != nil {
			line, _ := reader.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func hasAny(columns map[string]int, names []string) bool {
	for _, name := range names {
		if _, found := columns[name]; found {
			return true
		}
	}
	return false
}

func rowEntry(row []string, columns map[string]int) *entry {
	cell := func(column string) string {
		if i, found := columns[column]; found {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	e := &entry{names: [4]string{cell("application"), cell("library"), cell("device"), cell("os")}}
	for i, method := range methods {
		e.values[i] = cell(method)
	}
	return e
}
