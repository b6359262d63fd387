package known

import "bytes"

// methods are the fingerprints of a database that weir makes too.
var methods = [...]string{"ja4", "ja4s", "ja4h", "ja4x", "ja4t", "ja4ts"}

// Where those are in methods that are looked up together.
const (
	indexJA4  = 0
	indexJA4S = 1
)

// entry is a row or a record of a database: who it is, and by what it is recognised.
type entry struct {
	names  [4]string            // of the application, the library, the device and the operating system; "" if unknown
	values [len(methods)]string // by methods; "" if there is none
}

// parseDatabase reads either shape of a database.
func parseDatabase(content []byte) (*table, error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")) // a byte order mark
	if start := bytes.TrimLeft(content, " \t\r\n"); len(start) > 0 && (start[0] == '[' || start[0] == '{') {
		return parseJSON(content, start[0] == '[')
	}
	return parseCSV(content)
}

// name is the most particular of what an entry says.
func (e *entry) name() string {
	for _, name := range e.names {
		if name != "" {
			return name
		}
	}
	return ""
}

// addEntry adds each fingerprint of an entry that has a name. One with a JA4 and a JA4S means both together: the JA4 alone
// may be that of a library which many programs use.
func (t *table) addEntry(e *entry) error {
	if err := t.row(); err != nil {
		return err
	}
	name := e.name()
	if name == "" {
		return nil
	}
	if err := checkText(name); err != nil {
		return err
	}
	for i, method := range methods {
		value, answer := e.values[i], ""
		switch {
		case value == "", i == indexJA4S && e.values[indexJA4] != "":
			continue
		case i == indexJA4:
			answer = e.values[indexJA4S]
		}
		if err := t.add(method, value, answer, name); err != nil {
			return err
		}
	}
	return nil
}
