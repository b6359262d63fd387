package config

import (
	"golang.org/x/net/bpf"

	"weir/internal/filter"
)

// Filter says which packets are counted. The zero Filter is none: all of them are.
type Filter struct {
	Expression string // pcap-filter(7)
	Program    []bpf.Instruction
}

// filters is the kind of filters. An expression can be wrong in more ways than one sentence could exclude.
func filters() kind[Filter] {
	k := free("an expression of pcap-filter(7) for Ethernet, without host names", func(text string) (Filter, bool) {
		program, err := filter.Compile(text)
		return Filter{text, program}, err == nil
	})
	k.fault = func(text string) string {
		_, err := filter.Compile(text)
		return err.Error()
	}
	return k
}
