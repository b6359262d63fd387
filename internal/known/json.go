package known

import (
	"bytes"
	"encoding/json"
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
func parseJSON(content []byte) (*table, error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	isArray := bytes.TrimLeft(content, " \t\r\n")[0] == '['
	// at names the line where the decoder has come to, from 1.
	at := func(err error) error {
		return fmt.Errorf("line %d: %w", 1+bytes.Count(content[:decoder.InputOffset()], []byte("\n")), err)
	}
	if isArray {
		if _, err := decoder.Token(); err != nil {
			return nil, at(err)
		}
	}
	t := newTable()
	for decoder.More() {
		var r record
		if err := decoder.Decode(&r); err != nil {
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
		return nil, at(fmt.Errorf("there is something after the last record"))
	}
	return t, nil
}

func (r *record) entry() *entry {
	e := &entry{
		application: r.Application, library: r.Library, device: r.Device, os: r.OS,
		values: map[string]string{
			"ja4": r.JA4, "ja4s": r.JA4S, "ja4h": r.JA4H, "ja4x": r.JA4X, "ja4t": r.JA4T, "ja4ts": r.JA4TS,
		},
	}
	for _, text := range []*string{&e.application, &e.library, &e.device, &e.os} {
		*text = strings.TrimSpace(*text)
	}
	for method, value := range e.values {
		e.values[method] = strings.TrimSpace(value)
	}
	return e
}
