package known

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// parseBad reads a list of bad fingerprints: on each line the method, the fingerprint and the reason, with blanks between
// them. Empty lines and those that begin with "#" are passed over.
//
//	ja4 t13d1516h2_8daaf6152771_02713d6af862 reason
//	ja4h ge11nn05* reason
//	ja4+ja4s t13d190900_9dc949149365_97f8aa674fd9+t130200_1301_a56c5b993250 reason
func parseBad(content []byte) (*table, error) {
	t := newTable()
	number := 0
	for line := range bytes.Lines(content) {
		number++
		text := string(bytes.TrimSpace(line))
		if text == "" || text[0] == '#' {
			continue
		}
		if err := t.addBad(text); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return t, nil
}

func (t *table) addBad(line string) error {
	if err := t.row(); err != nil {
		return err
	}
	method, rest := cutBlank(line)
	value, reason := cutBlank(rest)
	if reason == "" {
		return errors.New("want a method, a fingerprint and a reason")
	}
	if err := checkText(reason); err != nil {
		return err
	}
	var ja4s string
	if method == "ja4+ja4s" {
		method = "ja4"
		if value, ja4s, _ = strings.Cut(value, "+"); ja4s == "" {
			return errors.New(`want a JA4 and a JA4S with "+" between them`)
		}
	}
	if !badMethods[method] {
		return fmt.Errorf("%q is no method of fingerprints", method)
	}
	return t.add(method, value, ja4s, reason)
}

// badMethods are the methods that tell programs and systems apart. JA4L, JA4LS and JA4SSH measure a path or a session.
var badMethods = map[string]bool{
	"ja4": true, "ja4s": true, "ja4h": true, "ja4x": true, "ja4t": true, "ja4ts": true, "ja4d": true, "ja4d6": true,
}

// cutBlank returns the first word and what follows it.
func cutBlank(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " \t")
	}
	return s, ""
}
