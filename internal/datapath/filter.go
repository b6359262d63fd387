package datapath

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Registers of a translated filter, which calls preserve. Behind the scratch memory on the stack are the frame's length and
// how many bytes before it are not the frame's.
const (
	regContext = asm.R6
	regA       = asm.R7
	regX       = asm.R8
	regData    = asm.R9

	lengthSlot = 16
	outerSlot  = 17
)

// directMax is how much of a frame is read in place, if it is there: Ethernet and IPv6.
const directMax = 14 + 40

// maxInstructions is how many instructions one translation may have: the farthest that a jump reaches. What package filter
// compiles takes 19 for 3 of the classic machine at the worst, which is 26,000 for the longest program.
const maxInstructions = math.MaxInt16

// matcher is a function of bpf/filter.h that a filter takes the place of, and what the filter needs to know of it.
type matcher struct {
	name string
	load string // the function that reads the frame
	skb  bool   // which may have bytes that are not the frame's, and a VLAN tag beside it
	bare bool   // what is read in place would not begin with an Ethernet header

	data, dataEnd int16 // offsets in its context: linux/bpf.h
}

// vlanPresent is the offset of that field in struct __sk_buff.
const vlanPresent = 20

// installFilter puts a filter into the programs that see packets, at interfaces with a link layer or bare ones.
func installFilter(spec *ebpf.CollectionSpec, filter []bpf.Instruction, bare bool) error {
	matchXDP := matcher{name: "match_xdp", load: "load_xdp", data: 0, dataEnd: 4}
	matchSKB := matcher{name: "match_skb", load: "load_skb", data: 76, dataEnd: 80, skb: true, bare: bare}
	for name, m := range map[string]matcher{
		kernelProgXdpIngress: matchXDP, kernelProgTcIngress: matchSKB, kernelProgTcEgress: matchSKB,
	} {
		program, ok := spec.Programs[name]
		if !ok { // the kernel cannot have it
			continue
		}
		translated, err := m.translate(filter)
		if err == nil {
			program.Instructions, err = replaceFunction(program.Instructions, m.name, translated)
		}
		if err == nil && !refersTo(translated, m.load) { // the kernel knows of no function that is not called
			program.Instructions, err = replaceFunction(program.Instructions, m.load, nil)
		}
		if err != nil {
			return fmt.Errorf("put the filter into the program %s: %w", name, err)
		}
	}
	return nil
}

// refersTo reports whether there is a call of a function, or a jump to a label.
func refersTo(program asm.Instructions, name string) bool {
	return slices.ContainsFunc(program, func(i asm.Instruction) bool { return i.Reference() == name })
}

// replaceFunction puts another body, or none, in the place of a function. What the kernel is told of the function goes with
// its first instruction.
func replaceFunction(program asm.Instructions, name string, body asm.Instructions) (asm.Instructions, error) {
	start := slices.IndexFunc(program, func(i asm.Instruction) bool { return i.Symbol() == name })
	if start < 0 {
		return nil, fmt.Errorf("there is no function %s", name)
	}
	end := start + 1
	for end < len(program) && program[end].Symbol() == "" {
		end++
	}
	if len(body) > 0 {
		body[0].Metadata = program[start].Metadata
	}
	return slices.Concat(program[:start], body, program[end:]), nil
}

// translate turns a classic program into the body of the function, twice: one that reads the frame in place, and one that
// calls the load function, to which the first one yields if the bytes are not in reach. Where the classic machine would end
// the program, for a load beyond the frame or a division by zero, so does the translation: the frame does not match.
func (m matcher) translate(filter []bpf.Instruction) (asm.Instructions, error) {
	out := asm.Instructions{
		asm.Mov.Reg(regContext, asm.R1), asm.StoreMem(asm.RFP, stackOffset(lengthSlot), asm.R2, asm.Word),
		asm.Mov.Imm(regA, 0), asm.Mov.Imm(regX, 0),
	}
	if m.skb {
		out = append(out, asm.StoreMem(asm.RFP, stackOffset(outerSlot), asm.R3, asm.Word))
	}
	passes := []translation{{matcher: m}}
	if reach := directReach(filter); reach > 0 && !m.bare {
		passes = []translation{{matcher: m, direct: reach}, {matcher: m}}
		out = append(out, m.inReach(reach)...)
	}
	for _, t := range passes {
		body, err := t.whole(filter)
		if err != nil {
			return nil, err
		}
		out = append(out, body...)
	}
	return out, nil
}

// directReach returns how many bytes of the frame a filter reads in place.
func directReach(filter []bpf.Instruction) (reach int) {
	for _, instruction := range filter {
		end := 0
		switch i := instruction.(type) {
		case bpf.LoadAbsolute:
			end = int(i.Off) + i.Size
		case bpf.LoadMemShift:
			end = int(i.Off) + 1
		}
		if end <= directMax {
			reach = max(reach, end)
		}
	}
	return reach
}

// inReach goes on if so many bytes can be read in place, and to the calling translation if not.
func (m matcher) inReach(reach int) (out asm.Instructions) {
	away := translation{}.label(0)
	if m.skb {
		out = append(out, asm.LoadMem(asm.R1, regContext, vlanPresent, asm.Word), asm.JNE.Imm(asm.R1, 0, away))
	}
	return append(out,
		asm.LoadMem(regData, regContext, m.data, asm.Word),
		asm.LoadMem(asm.R1, regContext, m.dataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, regData), asm.Add.Imm(asm.R2, int32(reach)),
		asm.JGT.Reg(asm.R2, asm.R1, away),
	)
}

// looksForTags reports whether a filter compares a frame's EtherType with that of a VLAN tag, as vlan does.
func looksForTags(filter []bpf.Instruction) bool {
	etherType := false
	for _, instruction := range filter {
		switch i := instruction.(type) {
		case bpf.LoadAbsolute:
			etherType = i == bpf.LoadAbsolute{Off: 12, Size: 2}
		case bpf.JumpIf:
			if etherType && slices.Contains(tagTypes, i.Val) {
				return true
			}
		}
	}
	return false
}

var tagTypes = []uint32{unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_QINQ1}

// translation is one of the two of a program; at and out are about the instruction that is next.
type translation struct {
	matcher
	direct int // bytes of the frame that are read in place
	at     int
	out    asm.Instructions
}

// whole translates a program. It ends where those go that do not match: the end of the other translation can be too far.
func (t translation) whole(filter []bpf.Instruction) (body asm.Instructions, err error) {
	for at, instruction := range filter {
		t.at, t.out = at, nil
		if err := t.translate(instruction); err != nil {
			return nil, err
		}
		t.out[0] = t.out[0].WithSymbol(t.label(at))
		body = append(body, t.out...)
	}
	if refersTo(body, t.noMatch()) { // or the verifier would object to what cannot be reached
		body = append(body, asm.Mov.Imm(asm.R0, 0).WithSymbol(t.noMatch()), asm.Return())
	}
	if len(body) > maxInstructions {
		return nil, fmt.Errorf("the filter is too long: it takes %d instructions, more than %d", len(body), maxInstructions)
	}
	return body, nil
}

func (t *translation) add(instructions ...asm.Instruction) { t.out = append(t.out, instructions...) }

// label names an instruction of the classic program.
func (t translation) label(at int) string { return t.prefix() + strconv.Itoa(at) }

// noMatch is where a filter ends that does not match.
func (t translation) noMatch() string { return t.prefix() + "no_match" }

func (t translation) prefix() string {
	if t.direct > 0 {
		return "filter_direct_"
	}
	return "filter_"
}

// skip is the label of the instruction behind so many others.
func (t *translation) skip(n int) string { return t.label(t.at + 1 + n) }

func (t *translation) translate(instruction bpf.Instruction) error {
	switch i := instruction.(type) {
	case bpf.LoadConstant:
		t.add(asm.Mov.Imm32(register(i.Dst), int32(i.Val)))
	case bpf.LoadExtension: // of these, package filter uses the length only
		t.add(asm.LoadMem(regA, asm.RFP, stackOffset(lengthSlot), asm.Word))
	case bpf.LoadAbsolute:
		t.loadAt(i.Off, i.Size)
		t.add(asm.Mov.Reg32(regA, asm.R0))
	case bpf.LoadIndirect: // the sum wraps, as libpcap's does and that of x/net's machine does not: ip[-2:2] is the EtherType
		t.add(asm.Mov.Reg32(asm.R2, regX), asm.Add.Imm32(asm.R2, int32(i.Off)))
		t.call(i.Size)
		t.add(asm.Mov.Reg32(regA, asm.R0))
	case bpf.LoadMemShift:
		t.loadAt(i.Off, 1)
		t.add(asm.Mov.Reg32(regX, asm.R0), asm.And.Imm32(regX, 0xf), asm.LSh.Imm32(regX, 2))
	case bpf.LoadScratch:
		t.add(asm.LoadMem(register(i.Dst), asm.RFP, stackOffset(i.N), asm.Word))
	case bpf.StoreScratch:
		t.add(asm.StoreMem(asm.RFP, stackOffset(i.N), register(i.Src), asm.Word))
	case bpf.TAX:
		t.add(asm.Mov.Reg32(regX, regA))
	case bpf.ALUOpConstant:
		t.add(aluOps[i.Op].Imm32(regA, int32(i.Val)))
	case bpf.ALUOpX:
		t.arithmetic(i.Op)
	case bpf.Jump:
		t.add(asm.Ja.Label(t.skip(int(i.Skip))))
	case bpf.JumpIf:
		t.add(jumpOps[i.Cond].Imm32(regA, int32(i.Val), t.skip(int(i.SkipTrue))), asm.Ja.Label(t.skip(int(i.SkipFalse))))
	case bpf.JumpIfX:
		t.add(jumpOps[i.Cond].Reg32(regA, regX, t.skip(int(i.SkipTrue))), asm.Ja.Label(t.skip(int(i.SkipFalse))))
	case bpf.RetConstant:
		t.add(asm.Mov.Imm32(asm.R0, int32(i.Val)), asm.Return())
	default:
		return fmt.Errorf("translate instruction %d: %v is not known", t.at, instruction)
	}
	return nil
}

var sizes = map[int]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word}

// loadAt loads from a fixed offset into register 0.
func (t *translation) loadAt(offset uint32, size int) {
	if int(offset)+size > t.direct {
		t.add(asm.Mov.Imm32(asm.R2, int32(offset)))
		t.call(size)
		return
	}
	t.add(asm.LoadMem(asm.R0, regData, int16(offset), sizes[size]))
	if size > 1 {
		t.add(asm.HostTo(asm.BE, asm.R0, sizes[size]))
	}
}

// call loads from the offset in register 2 into register 0.
func (t *translation) call(size int) {
	if t.skb {
		t.add(asm.LoadMem(asm.R4, asm.RFP, stackOffset(outerSlot), asm.Word))
	}
	t.add(
		asm.Mov.Reg(asm.R1, regContext), asm.Mov.Imm(asm.R3, int32(size)), asm.Call.Label(t.load),
		asm.JSLT.Imm(asm.R0, 0, t.noMatch()),
	)
}

// arithmetic computes with register X. In the classic machine shifting by more than 31 bits gives 0; eBPF takes the
// number's lowest 5 bits.
func (t *translation) arithmetic(op bpf.ALUOp) {
	switch op {
	case bpf.ALUOpDiv, bpf.ALUOpMod:
		t.add(asm.JEq.Imm32(regX, 0, t.noMatch()))
	case bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight:
		wide := t.label(t.at) + "_wide"
		t.add(
			asm.JLE.Imm32(regX, 31, wide), asm.Mov.Imm(regA, 0), asm.Ja.Label(t.skip(0)),
			aluOps[op].Reg32(regA, regX).WithSymbol(wide),
		)
		return
	}
	t.add(aluOps[op].Reg32(regA, regX))
}

func register(r bpf.Register) asm.Register {
	if r == bpf.RegX {
		return regX
	}
	return regA
}

// stackOffset is where a slot of the scratch memory is.
func stackOffset(slot int) int16 { return int16(-4 * (slot + 1)) }

var aluOps = map[bpf.ALUOp]asm.ALUOp{
	bpf.ALUOpAdd: asm.Add, bpf.ALUOpSub: asm.Sub, bpf.ALUOpMul: asm.Mul, bpf.ALUOpDiv: asm.Div, bpf.ALUOpMod: asm.Mod,
	bpf.ALUOpOr: asm.Or, bpf.ALUOpAnd: asm.And, bpf.ALUOpXor: asm.Xor,
	bpf.ALUOpShiftLeft: asm.LSh, bpf.ALUOpShiftRight: asm.RSh,
}

var jumpOps = map[bpf.JumpTest]asm.JumpOp{
	bpf.JumpEqual: asm.JEq, bpf.JumpNotEqual: asm.JNE, bpf.JumpGreaterThan: asm.JGT, bpf.JumpLessThan: asm.JLT,
	bpf.JumpGreaterOrEqual: asm.JGE, bpf.JumpLessOrEqual: asm.JLE,
}
