package testnet

import (
	"bytes"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// CaptureStart is when the captures that Pcap writes began.
var CaptureStart = time.Date(2026, 11, 21, 12, 0, 0, 1000, time.UTC)

// Captured is a frame of a capture, and when it came, since CaptureStart.
type Captured struct {
	At    time.Duration
	Frame []byte
}

// Pcap writes a pcap file of Ethernet frames, with times in nanoseconds.
func Pcap(t testing.TB, frames ...Captured) []byte {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriterNanos(&file)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: CaptureStart.Add(f.At), CaptureLength: len(f.Frame), Length: len(f.Frame)}
		if err := w.WritePacket(info, f.Frame); err != nil {
			t.Fatal(err)
		}
	}
	return file.Bytes()
}
