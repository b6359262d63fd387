package filter

import (
	"fmt"
	"slices"
	"strconv"
)

// parser reads tokens once, from left to right, and makes the condition as it goes: a word such as vlan moves the headers
// for all that stands behind it. After the first error it is at the end, and what it makes has no meaning.
type parser struct {
	tokens []token // the rest; the last is the end
	link   link
	err    error // *SyntaxError
}

// qualifiers say what an address, a port or a number stands for. Those without a kind qualify nothing.
type qualifiers struct {
	protocol  string // "" if none was named
	direction direction
	kind      string // host, net, port, portrange, proto
}

// fail keeps the first error.
func (p *parser) fail(at token, format string, args ...any) {
	if p.err == nil {
		p.err = &SyntaxError{at.column, fmt.Sprintf(format, args...)}
	}
	p.tokens = p.tokens[len(p.tokens)-1:]
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.peek()
	if t.kind != end {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept takes the next token if it is one of these operators or keywords.
func (p *parser) accept(texts ...string) (token, bool) {
	t := p.peek()
	if t.is(texts...) {
		return p.next(), true
	}
	return t, false
}

// expect takes the next token, which must be that operator.
func (p *parser) expect(text string) {
	if t, ok := p.accept(text); !ok {
		p.fail(t, "%s, where %q is wanted", t, text)
	}
}

// whole reads all there is.
func (p *parser) whole() condition {
	c := p.expression(qualifiers{})
	if t := p.peek(); t.kind != end {
		p.fail(t, "%s, where only and, or, or the end can be", t)
	}
	return c
}

// expression reads terms joined by "and" and "or", which bind alike, from the left. An operand without qualifiers takes
// those of the term before it.
func (p *parser) expression(q qualifiers) condition {
	c, q := p.term(q)
	for {
		join, ok := p.accept("&&", "||")
		if !ok {
			return c
		}
		var right condition
		if p.operandNext() {
			right = p.operand(q)
		} else {
			right, q = p.term(q)
		}
		c = joined(join, c, right)
	}
}

func joined(join token, a, b condition) condition {
	if join.text == "&&" {
		return and{a, b}
	}
	return or{a, b}
}

// term reads a term and returns the qualifiers for an operand behind it: its own, or, if it is in parentheses, those of the
// term before it.
func (p *parser) term(before qualifiers) (condition, qualifiers) {
	if _, ok := p.accept("!"); ok {
		c, q := p.term(before)
		return not{c}, q
	}
	if p.valueNext() {
		return p.relation(), qualifiers{}
	}
	if _, ok := p.accept("("); ok {
		c := p.expression(before)
		p.expect(")")
		return c, before
	}
	return p.primitive()
}

// operandNext reports whether there is an address, a port or a number next, perhaps negated or in parentheses, and not a
// term of its own.
func (p *parser) operandNext() bool {
	rest := p.tokens
	for rest[0].is("!", "(") {
		rest = rest[1:]
	}
	switch t := rest[0]; {
	case t.isNumber():
		for rest = rest[1:]; rest[0].is(")"); {
			rest = rest[1:]
		}
		return !isArithmetic(rest[0]) && !isRelation(rest[0])
	case t.kind == word:
		return !isKeyword(t.text) && !rest[1].is("[")
	default:
		return t.kind == escaped || t.kind == ipv6 || t.kind == mac
	}
}

// operand reads an address, a port or a number, or several in parentheses.
func (p *parser) operand(q qualifiers) condition {
	if _, ok := p.accept("!"); ok {
		return not{p.operand(q)}
	}
	if _, ok := p.accept("("); !ok {
		return p.qualified(p.next(), q)
	}
	c := p.operand(q)
	for {
		join, ok := p.accept("&&", "||")
		if !ok {
			p.expect(")")
			return c
		}
		c = joined(join, c, p.operand(q))
	}
}

// primitive reads a term that begins with a word.
func (p *parser) primitive() (condition, qualifiers) {
	t := p.peek()
	var q qualifiers
	switch {
	case t.is("less", "greater"):
		return p.lengthLimit(p.next()), q
	case t.is("vlan", "mpls", "pppoes"):
		return p.encapsulated(p.next()), q
	case t.is("pppoed"):
		return p.link.protocol(p, p.next(), etherTypePPPoED), q
	case t.is(protocols...):
		q.protocol = p.next().text
	}
	if cast, ok := p.accept("broadcast", "multicast"); ok {
		return p.cast(cast, q.protocol), qualifiers{}
	}
	if p.qualify(&q) {
		return p.operand(q), q
	}
	if q.protocol == "" {
		p.fail(t, "%s", misplaced(t))
		return never, q
	}
	return p.named(t), qualifiers{}
}

// qualify reads what stands between a protocol and its operand, and reports whether there is anything.
func (p *parser) qualify(q *qualifiers) bool {
	if _, ok := p.accept("proto"); ok {
		q.kind = "proto"
		return true
	}
	directed := p.direction(&q.direction)
	kind, ok := p.accept("host", "net", "port", "portrange")
	if ok {
		q.kind = kind.text
	} else if directed {
		q.kind = "host"
	}
	return ok || directed
}

// direction reads "src", "dst", or both, joined.
func (p *parser) direction(d *direction) bool {
	first, ok := p.accept("src", "dst")
	if !ok {
		return false
	}
	*d = destination
	if first.text == "src" {
		*d = source
	}
	if t := p.peek(); t.is("&&", "||") && p.tokens[1].is("src", "dst") && p.tokens[1].text != first.text {
		*d = either
		if p.next().text == "&&" {
			*d = both
		}
		p.next()
	}
	return true
}

// misplaced says why a token cannot begin a term.
func misplaced(t token) string {
	switch {
	case t.kind == end:
		return "the expression ends where something to look for is wanted"
	case t.kind == operator:
		return fmt.Sprintf("%s, where something to look for is wanted", t)
	case slices.Contains(unsupported, t.text):
		return fmt.Sprintf("%s is not supported", t)
	case isKeyword(t.text):
		return fmt.Sprintf("%s needs another word before it", t)
	default:
		return fmt.Sprintf("%s is no keyword, and an operand needs a qualifier before it, such as host, net or port", t)
	}
}

// number reads a number, for what it is called.
func (p *parser) number(what string, most uint32) uint32 {
	t := p.next()
	if !t.isNumber() {
		p.fail(t, "%s, where a number is wanted: %s", t, what)
		return 0
	}
	return p.parseNumber(t, what, most)
}

func (p *parser) parseNumber(t token, what string, most uint32) uint32 {
	n, err := strconv.ParseUint(t.text, 0, 32) // octal and hexadecimal are as in C
	if err != nil || uint32(n) > most {
		p.fail(t, "%s is too much or no number: %s is at most %d", t, what, most)
	}
	return uint32(n)
}
