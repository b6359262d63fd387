package filter

import "golang.org/x/net/bpf"

// A condition holds for a frame or not.
type condition interface {
	// generate puts the condition's instructions in front of the code. They jump to yes if it holds and to no
	// otherwise. It returns where they begin.
	generate(c *code, yes, no label) label
}

type (
	and struct{ a, b condition } // b is looked at if a holds
	or  struct{ a, b condition } // b is looked at if a does not hold
	not struct{ a condition }

	// member holds if the value is one of these. The list is not empty.
	member struct {
		a  value
		of []uint32
	}

	// comparison holds if a is to b as test says.
	comparison struct {
		test bpf.JumpTest
		a, b value
	}
)

// equal holds if a value has one bit pattern.
func equal(a value, to uint32) condition { return member{a, []uint32{to}} }

// always holds for every frame, never for none.
var (
	always = equal(constant(0), 0)
	never  = equal(constant(0), 1)
)

// all holds if each of these does, looked at in this order. Those that are nil say nothing; if all are, so is the result.
func all(conditions ...condition) (c condition) {
	for _, next := range conditions {
		switch {
		case c == nil:
			c = next
		case next != nil:
			c = and{c, next}
		}
	}
	return c
}

// anyOf holds if one of these does, looked at in this order.
func anyOf(first condition, rest ...condition) condition {
	for _, c := range rest {
		first = or{first, c}
	}
	return first
}

func (c and) generate(to *code, yes, no label) label {
	return c.a.generate(to, c.b.generate(to, yes, no), no)
}

func (c or) generate(to *code, yes, no label) label {
	return c.a.generate(to, yes, c.b.generate(to, yes, no))
}

func (c not) generate(to *code, yes, no label) label { return c.a.generate(to, no, yes) }

func (c member) generate(to *code, yes, no label) label {
	for i := len(c.of) - 1; i >= 0; i-- {
		found, next := to.near(yes, no)
		to.put(bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.of[i], SkipTrue: to.skip(found), SkipFalse: to.skip(next)})
		no = to.here()
	}
	return to.put(c.a.evaluate(0)...)
}

func (c comparison) generate(to *code, yes, no label) label {
	yes, no = to.near(yes, no)
	if b, ok := c.b.(constant); ok {
		to.put(bpf.JumpIf{Cond: c.test, Val: uint32(b), SkipTrue: to.skip(yes), SkipFalse: to.skip(no)})
		return to.put(c.a.evaluate(0)...)
	}
	to.put(bpf.JumpIfX{Cond: c.test, SkipTrue: to.skip(yes), SkipFalse: to.skip(no)})
	return to.put(operands(c.a, c.b, 0)...)
}

// label is a place in a program: the number of instructions from there to its end.
type label int

// code is a program that is written from its end to its beginning: jumps go forward only, so where one leads to is known
// when it is written.
type code struct {
	reversed []bpf.Instruction
}

// generate returns the program of a condition.
func generate(c condition) []bpf.Instruction {
	var to code
	no := to.put(bpf.RetConstant{Val: 0})
	yes := to.put(bpf.RetConstant{Val: 1})
	c.generate(&to, yes, no)
	program := make([]bpf.Instruction, len(to.reversed))
	for i, instruction := range to.reversed {
		program[len(program)-1-i] = instruction
	}
	return program
}

// here is the beginning of what was written.
func (c *code) here() label { return label(len(c.reversed)) }

// put writes instructions, the first of them foremost, and returns where they begin.
func (c *code) put(instructions ...bpf.Instruction) label {
	for i := len(instructions) - 1; i >= 0; i-- {
		c.reversed = append(c.reversed, instructions[i])
	}
	return c.here()
}

// near makes two places known to conditional jumps, which reach over 255 instructions at the most: of one farther away, it
// returns the place of a jump there.
func (c *code) near(yes, no label) (nearYes, nearNo label) {
	const reach = 255 - 1 // another jump may come in between
	for _, to := range []*label{&yes, &no} {
		if distance := c.here() - *to; distance > reach {
			*to = c.put(bpf.Jump{Skip: uint32(distance)})
		}
	}
	return yes, no
}

// skip is the length of a jump from an instruction that is written next.
func (c *code) skip(to label) uint8 { return uint8(c.here() - to) }
