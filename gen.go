// Package weir holds the instructions that generate the kernel side's Go bindings. Building needs none of this: the
// results are committed. Regenerating them needs clang-19, llvm-19, libbpf-dev and linux-libc-dev; see the Makefile.
package weir

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package datapath -output-dir internal/datapath -type record -type closing -type ledger_page -type sweep_args -type take_args -type hook -type fate -type handover -type flow_state -type tunnel_kind -type tunnel -type tunnel_zone kernel bpf/flow.bpf.c -- -O2 -g -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package datapath -output-dir internal/datapath -output-suffix _test -no-global-types -type comparison testparse bpf/testparse.bpf.c -- -O2 -g -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
