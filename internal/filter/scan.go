package filter

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"
)

// kind is what a token is.
type kind int

const (
	end      kind = iota
	operator      // or punctuation
	word          // keyword, number, IPv4 address or name
	escaped       // a name after a backslash, which is no keyword
	ipv6          // an address
	mac           // an address
)

// token is a piece of an expression.
type token struct {
	kind   kind
	text   string // of an operator, the one spelling for all its synonyms
	column int    // from 1
}

// String is for messages.
func (t token) String() string {
	if t.kind == end {
		return "the end"
	}
	return fmt.Sprintf("%.40q", t.text)
}

// is reports whether the token is one of these operators or keywords.
func (t token) is(texts ...string) bool {
	if t.kind != operator && t.kind != word {
		return false
	}
	for _, text := range texts {
		if t.text == text {
			return true
		}
	}
	return false
}

var (
	colons    = regexp.MustCompile(`^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*`)
	words     = regexp.MustCompile(`^[A-Za-z0-9]([-_.A-Za-z0-9]*[.A-Za-z0-9])?`)
	operators = regexp.MustCompile(`^(&&|\|\||<<|>>|>=|<=|!=|==|[][()!=<>+*/%&|^:-])`)
	hexPairs  = regexp.MustCompile(`^[0-9A-Fa-f]{1,2}([:-])([0-9A-Fa-f]{1,2}[:-]){4}[0-9A-Fa-f]{1,2}$`)
)

var synonyms = map[string]string{"and": "&&", "or": "||", "not": "!", "==": "="}

// scan splits an expression into tokens, of which the last is the end.
func scan(text string) ([]token, error) {
	var tokens []token
	for at := 0; ; {
		at += len(text[at:]) - len(strings.TrimLeft(text[at:], " \t\r\n"))
		if at == len(text) {
			return append(tokens, token{end, "", at + 1}), nil
		}
		t, length := first(text[at:])
		if length == 0 {
			r, _ := utf8.DecodeRuneInString(text[at:])
			return nil, &SyntaxError{at + 1, fmt.Sprintf("the character %q means nothing here", r)}
		}
		t.column = at + 1
		tokens = append(tokens, t)
		at += length
	}
}

// first reads the token that text begins with, of so many bytes.
func first(text string) (t token, length int) {
	// Colons are in addresses, and between the offset and the size of an accessor: the longer reading wins.
	if run := colons.FindString(text); run != "" {
		if hexPairs.MatchString(run) {
			return token{kind: mac, text: run}, len(run)
		}
		if addr, err := netip.ParseAddr(run); err == nil && addr.Is6() {
			return token{kind: ipv6, text: run}, len(run)
		}
	}
	if name := words.FindString(strings.TrimPrefix(text, `\`)); name != "" {
		switch {
		case text[0] == '\\':
			return token{kind: escaped, text: name}, len(name) + 1
		case hexPairs.MatchString(name):
			return token{kind: mac, text: name}, len(name)
		case synonyms[name] != "":
			return token{kind: operator, text: synonyms[name]}, len(name)
		}
		return token{kind: word, text: name}, len(name)
	}
	sign := operators.FindString(text)
	if synonyms[sign] != "" {
		return token{kind: operator, text: synonyms[sign]}, len(sign)
	}
	return token{kind: operator, text: sign}, len(sign)
}

// isNumber reports whether a token is meant to be a number: decimal, octal after a 0, or hexadecimal after 0x.
func (t token) isNumber() bool {
	return t.kind == word && number.MatchString(t.text)
}

var number = regexp.MustCompile(`^([0-9]+|0[xX][0-9A-Fa-f]+)$`)
