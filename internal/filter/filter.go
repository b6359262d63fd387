// Package filter compiles packet filters in the syntax of pcap-filter(7) to classic BPF programs for Ethernet frames.
// They mean what libpcap's mean for DLT_EN10MB: a load beyond the frame's end makes the frame not match, whatever the rest
// of the expression says, and an IPv6 packet's ports are looked for right behind its fixed header. That is the meaning of
// libpcap's programs before its optimiser, which removes loads that decide nothing, and with them what they need of the frame.
//
// Stricter than there: % and ^ want parentheses beside other operators, and whatever arithmetic reads must be there, on both
// sides of an operator. Laxer: the names of protocols behind proto need no backslash; the bytes of every protocol of IPv4
// that has a name can be looked at, as in gre[0]; the name of a port means its number in all protocols, whatever the host's
// list of services says; and of an IPv6 net, only the words of an address that the prefix reaches into must be in the frame.
//
// Left out are what needs another link type, a direction or the local network's mask, the rarer protocols (ISO, DECnet,
// AppleTalk, IPX, LLC), protochain, gateway, geneve, and names of hosts and networks: a filter must not depend on what a name
// server says.
package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// Limits of what is compiled. Linux takes no longer classic program either (BPF_MAXINSNS).
const (
	maxExpression   = 4096 // bytes
	maxInstructions = 4096
)

// SyntaxError says what is wrong with an expression, and where: Column is that of the byte, from 1; behind the last one
// if something is missing there; 0 if it is all of the expression.
type SyntaxError struct {
	Column int
	Reason string
}

// Error returns one line.
func (e *SyntaxError) Error() string {
	if e.Column == 0 {
		return e.Reason
	}
	return fmt.Sprintf("at column %d: %s", e.Column, e.Reason)
}

// Compile returns the program of an expression. It returns 0 for a frame that does not match. Any error is a
// *SyntaxError.
func Compile(expression string) ([]bpf.Instruction, error) {
	if len(expression) > maxExpression {
		return nil, &SyntaxError{maxExpression + 1, fmt.Sprintf("longer than %d bytes", maxExpression)}
	}
	tokens, err := scan(expression)
	if err != nil {
		return nil, err
	}
	p := parser{tokens: tokens, link: ethernet}
	condition := p.whole()
	if p.err != nil {
		return nil, p.err
	}
	program := generate(condition)
	if len(program) > maxInstructions {
		return nil, &SyntaxError{0, fmt.Sprintf("the expression takes %d instructions, more than %d: "+
			"it needs fewer terms, such as nets for hosts and portranges for ports", len(program), maxInstructions)}
	}
	return program, nil
}
