package filter

import "golang.org/x/net/bpf"

// A value is a number of 32 bits that is computed from a frame.
type value interface {
	// evaluate returns instructions that leave the value in register A. They may use register X, and of the scratch
	// memory the slots from this one on.
	evaluate(slot int) []bpf.Instruction
	// slots is how many slots of the scratch memory that takes.
	slots() int
}

const scratchSlots = 16 // BPF_MEMWORDS

type (
	constant uint32
	length   struct{} // of the frame

	binary struct {
		op   bpf.ALUOp
		a, b value
	}

	// load is a big-endian number of 1, 2 or 4 bytes in the frame: at base + index or, where the header at base is one of
	// IPv4 and is to be stepped over, at base + its length + index.
	load struct {
		base     uint32
		index    value
		size     int
		overIPv4 bool
	}
)

// field is a load at a fixed place.
func field(at uint32, size int) value { return load{base: at, index: constant(0), size: size} }

// masked is a field of which only some bits matter.
func masked(at uint32, size int, mask uint32) value {
	switch mask {
	case 0:
		return constant(0)
	case 1<<(8*size) - 1:
		return field(at, size)
	default:
		return binary{bpf.ALUOpAnd, field(at, size), constant(mask)}
	}
}

func (v constant) evaluate(int) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(v)}}
}

func (length) evaluate(int) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}
}

func (v binary) evaluate(slot int) []bpf.Instruction {
	if b, ok := v.b.(constant); ok {
		return append(v.a.evaluate(slot), bpf.ALUOpConstant{Op: v.op, Val: uint32(b)})
	}
	return append(operands(v.a, v.b, slot), bpf.ALUOpX{Op: v.op})
}

// operands leaves a in register A and b in register X.
func operands(a, b value, slot int) []bpf.Instruction {
	instructions := append(a.evaluate(slot), bpf.StoreScratch{Src: bpf.RegA, N: slot})
	instructions = append(instructions, b.evaluate(slot+1)...)
	return append(instructions, bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: slot})
}

func (v load) evaluate(slot int) []bpf.Instruction {
	index, fixed := v.index.(constant)
	switch {
	case fixed && v.overIPv4:
		return []bpf.Instruction{
			bpf.LoadMemShift{Off: v.base}, bpf.LoadIndirect{Off: v.base + uint32(index), Size: v.size},
		}
	case fixed:
		return []bpf.Instruction{bpf.LoadAbsolute{Off: v.base + uint32(index), Size: v.size}}
	case v.overIPv4:
		return append(v.index.evaluate(slot), bpf.LoadMemShift{Off: v.base}, bpf.ALUOpX{Op: bpf.ALUOpAdd},
			bpf.TAX{}, bpf.LoadIndirect{Off: v.base, Size: v.size})
	default:
		return append(v.index.evaluate(slot), bpf.TAX{}, bpf.LoadIndirect{Off: v.base, Size: v.size})
	}
}

func (constant) slots() int { return 0 }
func (length) slots() int   { return 0 }
func (v load) slots() int   { return v.index.slots() }

func (v binary) slots() int {
	if _, ok := v.b.(constant); ok {
		return v.a.slots()
	}
	return operandSlots(v.a, v.b)
}

// operandSlots is what operands takes.
func operandSlots(a, b value) int { return max(a.slots(), 1+b.slots()) }
