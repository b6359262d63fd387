package filter

import (
	"math"

	"golang.org/x/net/bpf"
)

// binding is how strongly arithmetic operators bind: all of them, unlike in C, more strongly than a comparison. In libpcap
// % and ^ swallow whatever follows them; here they want parentheses.
var binding = map[string]int{"|": 1, "&": 2, "<<": 3, ">>": 3, "+": 4, "-": 4, "*": 5, "/": 5}

var operations = map[string]bpf.ALUOp{
	"|": bpf.ALUOpOr, "&": bpf.ALUOpAnd, "<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight, "+": bpf.ALUOpAdd,
	"-": bpf.ALUOpSub, "*": bpf.ALUOpMul, "/": bpf.ALUOpDiv, "%": bpf.ALUOpMod, "^": bpf.ALUOpXor,
}

var relations = map[string]bpf.JumpTest{
	"=": bpf.JumpEqual, "!=": bpf.JumpNotEqual, ">": bpf.JumpGreaterThan, ">=": bpf.JumpGreaterOrEqual,
	"<": bpf.JumpLessThan, "<=": bpf.JumpLessOrEqual,
}

func isArithmetic(t token) bool {
	_, ok := operations[t.text]
	return ok && t.kind == operator
}

func isRelation(t token) bool {
	_, ok := relations[t.text]
	return ok && t.kind == operator
}

// valueNext reports whether there is a value next, and not a term. What is in parentheses is one if arithmetic goes on
// behind them.
func (p *parser) valueNext() bool {
	t := p.peek()
	if !t.is("(") {
		_, named := constants[t.text]
		return t.isNumber() || t.is("-", "len") || t.kind == word && named || p.tokens[0].kind == word && p.accessNext()
	}
	depth := 0
	for i, t := range p.tokens {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		}
		if depth == 0 && t.kind != end {
			return isArithmetic(p.tokens[i+1]) || isRelation(p.tokens[i+1])
		}
	}
	return false
}

// accessNext reports whether there is something like tcp[13] next.
func (p *parser) accessNext() bool { return p.tokens[0].kind == word && p.tokens[1].is("[") }

// guarded is a value with what must hold for a frame to have it, nil if nothing.
type guarded struct {
	value
	guard condition
}

// relation reads a comparison of two values. It does not hold for a frame that has not what they are read from, whatever
// the comparison.
func (p *parser) relation() condition {
	a := p.arithmetic()
	sign := p.next()
	if !isRelation(sign) {
		p.fail(sign, "%s, where a comparison is wanted: = != < <= > or >=", sign)
		return never
	}
	b := p.arithmetic()
	if p.err == nil && operandSlots(a.value, b.value) > scratchSlots {
		p.fail(sign, "the comparison has more than %d values to remember at a time", scratchSlots)
	}
	return all(a.guard, b.guard, comparison{relations[sign.text], a.value, b.value})
}

func (p *parser) arithmetic() guarded {
	v := p.factor()
	if sign, ok := p.accept("%", "^"); ok {
		v = p.combine(sign, v, p.factor())
	} else {
		v = p.climb(v, 0)
	}
	if t := p.peek(); isArithmetic(t) {
		p.fail(t, "parentheses are wanted where %% or ^ stands beside another operator")
	}
	return v
}

// climb reads operators that bind more strongly than so, and their operands, behind a first operand.
func (p *parser) climb(left guarded, above int) guarded {
	for binding[p.peek().text] > above {
		sign := p.next()
		right := p.climb(p.factor(), binding[sign.text])
		left = p.combine(sign, left, right)
	}
	return left
}

func (p *parser) combine(sign token, a, b guarded) guarded {
	if n, ok := b.value.(constant); ok {
		switch {
		case n == 0 && (sign.text == "/" || sign.text == "%"):
			p.fail(sign, "division by zero")
		case n > 31 && (sign.text == "<<" || sign.text == ">>"):
			p.fail(sign, "a shift by more than 31 bits")
		}
	}
	return guarded{binary{operations[sign.text], a.value, b.value}, all(a.guard, b.guard)}
}

func (p *parser) factor() guarded {
	if p.accessNext() {
		return p.access()
	}
	t := p.next()
	n, named := constants[t.text]
	switch {
	case t.is("("):
		v := p.arithmetic()
		p.expect(")")
		return v
	case t.is("-"):
		v := p.factor()
		return guarded{binary{bpf.ALUOpSub, constant(0), v.value}, v.guard}
	case t.is("len"):
		return guarded{value: length{}}
	case t.isNumber():
		return guarded{value: constant(p.parseNumber(t, "a number", math.MaxUint32))}
	case t.kind == word && named:
		return guarded{value: constant(n)}
	}
	p.fail(t, "%s, where a number is wanted, or what stands for one", t)
	return guarded{value: constant(0)}
}

// access reads something like tcp[13] or ip[2:2].
func (p *parser) access() guarded {
	const longest = 65535 // bytes, of a frame
	protocol := p.next()
	p.expect("[")
	at := p.peek()
	index := p.arithmetic()
	if n, ok := index.value.(constant); ok && n > longest {
		p.fail(at, "no frame has so many bytes")
	}
	size := uint32(1)
	if _, ok := p.accept(":"); ok {
		t := p.peek()
		size = p.number("a size in bytes", longest)
		if size != 1 && size != 2 && size != 4 {
			p.fail(t, "a size of %d bytes: it is 1, 2 or 4", size)
		}
	}
	p.expect("]")
	v, guard := p.accessed(protocol, load{index: index.value, size: int(size)}, index.guard)
	return guarded{v, guard}
}
