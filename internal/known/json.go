package known

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// record is what weir reads of a record of ja4db.com; null is "".
type record struct {
	Application string `json:"application"`
	Library     string `json:"library"`
	Device      string `json:"device"`
	OS          string `json:"os"`
	JA4         string `json:"ja4_fingerprint"`
	JA4S        string `json:"ja4s_fingerprint"`
	JA4H        string `json:"ja4h_fingerprint"`
	JA4X        string `json:"ja4x_fingerprint"`
	JA4T        string `json:"ja4t_fingerprint"`
	JA4TS       string `json:"ja4ts_fingerprint"`
}

// parseJSON reads the records of ja4db.com: an array of them, or one after the other.
func parseJSON(content []byte, isArray bool) (*table, error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	t := newTable()
	// at names the record, and the line where the decoder has come to, both from 1.
	at := func(err error) error {
		line := 1 + bytes.Count(content[:decoder.InputOffset()], []byte("\n"))
		return fmt.Errorf("record %d, by line %d: %w", t.rows, line, err)
	}
	if isArray {
		if _, err := decoder.Token(); err != nil {
			return nil, at(err)
		}
	}
	for decoder.More() {
		var r record
		if err := decoder.Decode(&r); err != nil {
			t.rows++
			return nil, at(err)
		}
		if err := t.addEntry(r.entry()); err != nil {
			return nil, at(err)
		}
	}
	if isArray {
		if _, err := decoder.Token(); err != nil {
			return nil, at(err)
		}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, at(errors.New("want nothing but records up to the end"))
	}
	if t.rows > 0 && len(t.texts) == 0 { // such as an object around the records, or an answer that is an error
		return nil, errors.New("want records with members such as application and ja4_fingerprint, and there is none")
	}
	return t, nil
}

func (r *record) entry() *entry {
	e := &entry{
		names:  [4]string{r.Application, r.Library, r.Device, r.OS},
		values: [len(methods)]string{r.JA4, r.JA4S, r.JA4H, r.JA4X, r.JA4T, r.JA4TS},
	}
	for i := range e.names {
		e.names[i] = strings.TrimSpace(e.names[i])
	}
	for i := range e.values {
		e.values[i] = strings.TrimSpace(e.values[i])
	}
	return e
}
