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

func parseFilter(text string) (Filter, error) {
	program, err := filter.Compile(text)
	return Filter{text, program}, err
}
