package testja4

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"os"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Packets gives the packets of a capture, and when each was seen in nanoseconds of Unix time.
func Packets(t testing.TB, capture string) iter.Seq2[gopacket.Packet, uint64] {
	t.Helper()
	contents, err := os.ReadFile(capture)
	if err != nil {
		t.Fatal(err)
	}
	var source gopacket.PacketDataSource
	var link layers.LinkType
	if reader, err := pcapgo.NewNgReader(bytes.NewReader(contents), pcapgo.DefaultNgReaderOptions); err == nil {
		source, link = reader, reader.LinkType()
	} else if reader, err := pcapgo.NewReader(bytes.NewReader(contents)); err == nil {
		source, link = reader, reader.LinkType()
	} else {
		t.Fatalf("read %s: %v", capture, err)
	}
	return func(yield func(gopacket.Packet, uint64) bool) {
		for {
			data, info, err := source.ReadPacketData()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("read %s: %v", capture, err)
			}
			if !yield(gopacket.NewPacket(data, link, gopacket.Default), uint64(info.Timestamp.UnixNano())) {
				return
			}
		}
	}
}
