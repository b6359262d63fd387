package known

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a list may hold. A file at its bounds takes some 200 MB of memory once it is read.
const (
	maxFileBytes = 64 << 20
	maxEntries   = 1_000_000 // rows, and fingerprints of them
	maxValue     = 256       // bytes of a fingerprint
	maxName      = 256       // bytes of a name or reason
	maxJoined    = 512       // bytes of all names of a fingerprint
)

// partsOf is how many parts, with "_" between them, a whole fingerprint of a method has.
var partsOf = map[string]int{"ja4": 3, "ja4s": 3, "ja4h": 4, "ja4x": 3, "ja4t": 4, "ja4ts": 4}

// pattern is what an entry is found by.
type pattern struct {
	method string
	value  string // or the beginning of one
	ja4s   string // that the server has to answer with; "" for any
}

// table maps fingerprints, whole or by how they begin, to texts. It is not changed once it is built.
type table struct {
	texts    map[pattern]string
	prefixes map[string][]int // by method: the lengths of values that are beginnings, the longest first

	shared map[string]string // one copy of equal texts, while it is built
	rows   int
}

func newTable() *table {
	return &table{texts: map[pattern]string{}, prefixes: map[string][]int{}, shared: map[string]string{}}
}

// built forgets what only building needs.
func (t *table) built() { t.shared = nil }

// row counts a row.
func (t *table) row() error {
	if t.rows++; t.rows > maxEntries {
		return fmt.Errorf("there are more than %d rows", maxEntries)
	}
	return nil
}

// add adds a text to those of a fingerprint. A value stands for every one that begins so if it ends in "*" or has fewer
// parts than its method. Case does not count.
func (t *table) add(method, value, ja4s, text string) error {
	value, ja4s = strings.ToLower(value), strings.ToLower(ja4s)
	for _, v := range []string{value, ja4s} {
		if err := checkValue(v); err != nil {
			return err
		}
	}
	if value == "" || value == "*" {
		return fmt.Errorf("%q is no fingerprint", value)
	}
	beginning, isPrefix := strings.CutSuffix(value, "*")
	if !isPrefix && strings.Count(value, "_")+1 < partsOf[method] {
		beginning, isPrefix = value+"_", true
	}
	if isPrefix {
		t.addPrefix(method, len(beginning))
	}
	t.join(pattern{method, strings.Clone(beginning), strings.Clone(ja4s)}, t.share(text))
	if len(t.texts) > maxEntries {
		return fmt.Errorf("there are more than %d fingerprints", maxEntries)
	}
	return nil
}

func (t *table) addPrefix(method string, length int) {
	lengths := t.prefixes[method]
	at, found := slices.BinarySearchFunc(lengths, length, func(a, b int) int { return b - a })
	if !found {
		t.prefixes[method] = slices.Insert(lengths, at, length)
	}
}

// join adds a text to those that a pattern has already, as an alternative.
func (t *table) join(p pattern, text string) {
	const or = " or "
	old, found := t.texts[p]
	switch {
	case !found:
		t.texts[p] = text
	case !strings.Contains(or+old+or, or+text+or) && len(old)+len(or)+len(text) <= maxJoined:
		t.texts[p] = t.share(old + or + text)
	}
}

// share returns one copy of equal texts, which does not keep the file in memory.
func (t *table) share(text string) string {
	if s, found := t.shared[text]; found {
		return s
	}
	text = strings.Clone(text)
	t.shared[text] = text
	return text
}

// lookup returns the text of a fingerprint or "". An entry that asks for the server's JA4S goes before one that does not,
// then a whole value before a beginning, then the longest beginning. Case does not count. It does not allocate for one in lower case.
func (t *table) lookup(method, value, ja4s string) string {
	value, ja4s = strings.ToLower(value), strings.ToLower(ja4s)
	if ja4s != "" {
		if text := t.lookupValue(method, value, ja4s); text != "" {
			return text
		}
	}
	return t.lookupValue(method, value, "")
}

func (t *table) lookupValue(method, value, ja4s string) string {
	if text := t.texts[pattern{method, value, ja4s}]; text != "" {
		return text
	}
	for _, length := range t.prefixes[method] {
		if length <= len(value) {
			if text := t.texts[pattern{method, value[:length], ja4s}]; text != "" {
				return text
			}
		}
	}
	return ""
}

func checkValue(v string) error {
	if len(v) > maxValue {
		return fmt.Errorf("a fingerprint has more than %d bytes", maxValue)
	}
	if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("the fingerprint %q is not of printable ASCII characters", v)
	}
	return nil
}

// checkText refuses what would not show as it is, such as a line break or a change of the writing direction.
func checkText(s string) error {
	if len(s) > maxName {
		return fmt.Errorf("a text has more than %d bytes", maxName)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("the text %q is not of printable characters", s)
	}
	return nil
}
