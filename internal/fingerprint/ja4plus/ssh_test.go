package ja4plus

import (
	"slices"
	"testing"

	"weir/internal/fingerprint"
	"weir/internal/flow"
)

// some are so many of a length, behind others.
func some(count int, length uint16, others ...uint16) []uint16 {
	return append(others, slices.Repeat([]uint16{length}, count)...)
}

func TestJA4SSH(t *testing.T) {
	for name, test := range map[string]struct {
		lengths flow.Lengths
		want    string
	}{
		"shell": {flow.Lengths{
			Payloads: [2][]uint16{some(10, 100, some(66, 36)...), some(24, 1000, some(100, 36)...)},
			Acks:     [2]uint32{74, 5},
		}, "c36s36_c76s124_c74s5"},
		"from the server only": {flow.Lengths{
			Payloads: [2][]uint16{nil, some(200, 1460)},
			Acks:     [2]uint32{36, 0},
		}, "c0s1460_c0s200_c36s0"},
		"as common: the smaller": {flow.Lengths{
			Payloads: [2][]uint16{some(39, 70, some(40, 80, some(40, 90)...)...), some(80, 50, 60)},
		}, "c80s50_c119s81_c0s0"},
		"not full": {flow.Lengths{Payloads: [2][]uint16{some(100, 36), some(99, 36)}}, ""},
		"nothing":  {flow.Lengths{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(test.lengths.Payloads[0])
			if got := JA4SSH(test.lengths, 0).Value; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if !slices.Equal(test.lengths.Payloads[0], before) {
				t.Error("the lengths were put in another order")
			}
		})
	}
}

func TestJA4SSHOfTheOtherEnd(t *testing.T) {
	lengths := flow.Lengths{
		Payloads: [2][]uint16{some(150, 36), some(50, 44)},
		Acks:     [2]uint32{1, 2},
	}
	if got, want := JA4SSH(lengths, 1).Value, "c44s36_c50s150_c2s1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInterpretJA4SSH(t *testing.T) {
	const interactive, reverse = "Interactive SSH Session", "Reverse SSH Session"
	const download, upload, unknown = "SSH File Transfer", "SSH File Transfer (Upload)", "Unknown"
	for value, want := range map[string]string{
		"c36s36_c51s80_c69s0":      interactive,
		"c36s36_c51s80_c61s0":      interactive,
		"c36s36_c51s80_c60s0":      unknown,
		"c36s52_c51s80_c69s0":      unknown,
		"c76s76_c71s59_c0s70":      reverse,
		"c71s71_c71s59_c0s61":      reverse,
		"c70s71_c71s59_c0s61":      unknown,
		"c71s71_c71s59_c0s60":      unknown,
		"c112s1460_c0s179_c21s0":   download,
		"c112s1001_c19s81_c21s0":   download,
		"c112s1000_c19s81_c21s0":   unknown,
		"c112s1001_c20s81_c21s0":   unknown,
		"c112s1001_c19s80_c21s0":   unknown,
		"c1460s112_c179s0_c0s21":   upload,
		"c1001s112_c81s19_c0s21":   upload,
		"c1001s112_c80s19_c0s21":   unknown,
		"c1001s112_c81s20_c0s21":   unknown,
		"c1460s1460_c10s190_c0s61": reverse, // the rules have an order
		"c0s0_c0s0_c0s0":           unknown,

		"":                                 "",
		"c36s36_c51s80":                    "",
		"c36s36_c51s80_c69s0 ":             "",
		"c36s36_c51s80_c69s0_c1":           "",
		"c36s36_c-51s80_c69s0":             "",
		"s36c36_s51c80_s69c0":              "",
		"c36s36_c51s80_c69s99999999999999": "",
	} {
		if got := InterpretJA4SSH(value); got != want {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
}

// FuzzSSH: a window of whatever lengths has a fingerprint, and that a meaning; of what is none, nothing is said.
func FuzzSSH(f *testing.F) {
	f.Add("c36s36_c51s80_c69s0", []byte{36, 36, 52}, uint32(69), uint32(0))
	f.Add("c1s1_c1s1_c1s", []byte{0, 255}, uint32(1<<31), uint32(7))
	f.Fuzz(func(t *testing.T, value string, lengths []byte, acks, other uint32) {
		if meaning := InterpretJA4SSH(value); (meaning != "") != ja4ssh.MatchString(value) {
			t.Errorf("%q is %q", value, meaning)
		}
		l := flow.Lengths{Acks: [2]uint32{acks % 1e9, other % 1e9}}
		for i := range SSHWindow {
			var length uint16
			if len(lengths) > 0 {
				length = uint16(lengths[i%len(lengths)]) << (i % 9)
			}
			l.Payloads[length%2] = append(l.Payloads[length%2], length)
		}
		costsNoMore(t, lengths, func([]byte) fingerprint.Fingerprint {
			told := JA4SSH(l, int(acks%2))
			if InterpretJA4SSH(told.Value) == "" {
				t.Errorf("%q means nothing", told.Value)
			}
			return told
		})
	})
}
