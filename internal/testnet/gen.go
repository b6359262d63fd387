// Package testnet gives tests and benchmarks a network of their own: namespaces joined by veth pairs that send nothing
// by themselves, frames of every shape, and a generator of an exact number of them. It needs Linux and root.
package testnet

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu" testgen ../../bpf/testgen.bpf.c
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu" testtalk ../../bpf/testtalk.bpf.c
