package known

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parseDatabase reads either shape of a database.
func parseDatabase(content []byte) (*table, error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")) // a byte order mark
	if start := bytes.TrimLeft(content, " \t\r\n"); len(start) > 0 && (start[0] == '[' || start[0] == '{') {
		return parseJSON(content)
	}
	return parseCSV(content)
}

// entry is a row or a record: who it is, and by what it is recognised.
type entry struct {
	application, library, device, os string
	values                           map[string]string // by method
}

// csvMethods are the columns of fingerprints that weir makes; the others of the shape, ja4tscan and Notes, are passed over.
var csvMethods = []string{"ja4", "ja4s", "ja4h", "ja4x", "ja4t", "ja4ts"}

// parseCSV reads the shape of FoxIO's ja4plus-mapping.csv: a header line with the columns Application, Library, Device, OS
// and one for each method, in any order and case. Columns of other names are passed over.
func parseCSV(content []byte) (*table, error) {
	reader := csv.NewReader(bytes.NewReader(content))
	reader.ReuseRecord = true
	header, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", lineOf(err, 1))
	}
	columns := make(map[string]int, len(header))
	for i, name := range header {
		columns[strings.ToLower(strings.TrimSpace(name))] = i
	}
	if !hasAny(columns, csvMethods) || !hasAny(columns, []string{"application", "library", "device", "os"}) {
		return nil, errors.New("line 1: want a header with columns such as Application and ja4")
	}
	t := newTable()
	e := entry{values: make(map[string]string, len(csvMethods))}
	for {
		row, err := reader.Read()
		if err == io.EOF {
			return t, nil
		}
		line, _ := reader.FieldPos(0)
		if err != nil {
			return nil, lineOf(err, line)
		}
		e.fill(row, columns)
		if err := t.addEntry(&e); err != nil {
			return nil, lineOf(err, line)
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

// lineOf names the line of an error. Those of the csv package name it themselves.
func lineOf(err error, line int) error {
	if _, ok := errors.AsType[*csv.ParseError](err); ok {
		return err
	}
	return fmt.Errorf("line %d: %w", line, err)
}

func (e *entry) fill(row []string, columns map[string]int) {
	cell := func(name string) string {
		if i, found := columns[name]; found {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	e.application, e.library, e.device, e.os = cell("application"), cell("library"), cell("device"), cell("os")
	for _, method := range csvMethods {
		e.values[method] = cell(method)
	}
}

// name is the most particular of what an entry says.
func (e *entry) name() string {
	for _, name := range []string{e.application, e.library, e.device, e.os} {
		if name != "" {
			return name
		}
	}
	return ""
}

// addEntry adds each fingerprint of an entry that has a name. One with a JA4 and a JA4S means both together: the JA4 alone
// may be that of a library which many programs use.
func (t *table) addEntry(e *entry) error {
	name := e.name()
	if name == "" {
		return nil
	}
	if err := checkText(name); err != nil {
		return err
	}
	for _, method := range csvMethods {
		value, ja4s := e.values[method], ""
		if method == "ja4" {
			ja4s = e.values["ja4s"]
		}
		if value == "" || method == "ja4s" && e.values["ja4"] != "" {
			continue
		}
		if err := t.add(method, value, ja4s, name); err != nil {
			return err
		}
	}
	return nil
}
