package datapath

import (
	"fmt"
	"math/bits"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"weir/internal/flow"
)

// Samples is what the kernel side copies of packets for fingerprints: a set.
type Samples uint32

// The members of Samples.
const (
	SampleHandshakes   = Samples(kernelWantedWANT_HANDSHAKE)    // how TCP connections were opened: Handshake of a Record
	SampleTLS          = Samples(kernelWantedWANT_TLS)          // the client's and the server's hello, up to 4 KiB each
	SampleCertificates = Samples(kernelWantedWANT_CERTIFICATES) // and what else either sends before encryption begins, up to 16 KiB
	SampleHTTP         = Samples(kernelWantedWANT_HTTP)         // heads of HTTP/1 requests, up to 8 KiB
	SampleSSH          = Samples(kernelWantedWANT_SSH)          // Lengths of SSH connections
	SampleQUIC         = Samples(kernelWantedWANT_QUIC)         // the first four Initial datagrams of each end
	SampleQUICTimes    = Samples(kernelWantedWANT_QUIC_TIMES)   // and the first 16 bytes of the datagrams that follow, which say when
	SampleDHCP         = Samples(kernelWantedWANT_DHCP)         // 64 DHCP datagrams of each end in a second, up to 1,500 bytes
)

// Sizes of the maps for samples. The ring holds what comes between two looks at it: 8 MiB are 5,000 connections with 1.6 KiB
// each, a tenth of a second of 50,000 a second. An SSH connection takes a kilobyte.
const (
	samplesRingMax     = 8 << 20
	samplesRingMin     = 256 << 10
	samplesRingPerFlow = 32
	sshConnectionsMax  = 1024
)

// needStreams says whether the kernel side remembers where in what an end sends it is.
func (s Samples) needStreams() bool {
	return s&Samples(kernelWantedWANT_STREAMS|kernelWantedWANT_DATAGRAMS) != 0
}

// sizeSamples makes the maps as large as the setting needs. Those that nothing is kept in stay at one element.
func sizeSamples(spec *ebpf.CollectionSpec, cfg *Config) {
	if cfg.Samples == 0 {
		return
	}
	ring := min(max(cfg.MaxFlows, samplesRingMin/samplesRingPerFlow), samplesRingMax/samplesRingPerFlow) * samplesRingPerFlow
	spec.Maps[kernelMapSamples].MaxEntries = 1 << (bits.Len32(ring) - 1)
	slots := bucketsFor(cfg.MaxFlows) * bucketSlots
	if cfg.Samples.needStreams() {
		spec.Maps[kernelMapStreams].MaxEntries = slots
	}
	if cfg.Samples&SampleHandshakes != 0 {
		spec.Maps[kernelMapHandshakes].MaxEntries = slots
	}
	if cfg.Samples&SampleSSH != 0 {
		spec.Maps[kernelMapSsh].MaxEntries = min(cfg.MaxFlows, sshConnectionsMax)
	}
}

// sampleInterval returns how many ns of a CPU's time a sample takes, at so many a second; 0: there is no limit.
func sampleInterval(perSecond uint32) uint32 {
	if perSecond == 0 {
		return 0
	}
	return max(1, uint32(uint64(time.Second)/uint64(perSecond)))
}

// ReadSamples passes what the kernel side copied and nobody has read yet to one of the functions, in order, and gives the ring
// the room back. What is passed is only valid during the call. It does not wait for more. What is wrong with one does not keep
// the others back.
func (d *Datapath) ReadSamples(sample func(*flow.Sample), lengths func(*flow.Lengths)) error {
	var bad error
	d.samples.read(func(_ uintptr, raw []byte) {
		if err := decodeSample(raw, sample, lengths); err != nil {
			bad = err
		}
	})
	d.samples.consumeAll()
	if bad != nil {
		return fmt.Errorf("read the ring of samples: %w", bad)
	}
	return nil
}

func decodeSample(raw []byte, sample func(*flow.Sample), lengths func(*flow.Lengths)) error {
	head, err := sampleOf[kernelSampleHead](raw)
	if err != nil {
		return err
	}
	data := raw[unsafe.Sizeof(*head):]
	if int(head.Len) > len(data) || head.End > 1 {
		return fmt.Errorf("a sample of %d bytes by end %d in %d bytes", head.Len, head.End, len(data))
	}
	key := decodeKey(&head.Key)
	if kernelSampleKind(head.Kind) == kernelSampleKindSAMPLE_LENGTHS {
		return decodeLengths(raw, key, lengths)
	}
	kind := flow.SampleStream
	if kernelSampleKind(head.Kind) == kernelSampleKindSAMPLE_DATAGRAM {
		kind = flow.SampleDatagram
	}
	sample(&flow.Sample{
		Key: key, Opener: initiator(kernelFlowState(head.Opened)), End: head.End, Kind: kind, TTL: head.Ttl,
		TimeNs: head.TimeNs, Offset: head.Offset, Origin: head.Origin, Data: data[:head.Len:head.Len],
	})
	return nil
}

func decodeLengths(raw []byte, key flow.Key, lengths func(*flow.Lengths)) error {
	l, err := sampleOf[kernelLengths](raw)
	if err != nil {
		return err
	}
	decoded := flow.Lengths{Key: key, Opener: initiator(kernelFlowState(l.Head.Opened)), TimeNs: l.Head.TimeNs, Acks: l.Acks}
	for i := range decoded.Payloads {
		decoded.Payloads[i] = l.Payload[i][:min(int(l.Count[i]), len(l.Payload[i]))]
	}
	lengths(&decoded)
	return nil
}

// decodeHandshake returns how the connection of an opened_record was opened.
func decodeHandshake(raw *kernelHandshake) *flow.Handshake {
	h := &flow.Handshake{
		SYN: decodeOpening(&raw.Syn), SYNACK: decodeOpening(&raw.Synack), ACKNs: raw.AckNs,
		Reset: time.Duration(raw.ResetMs) * time.Millisecond,
	}
	for _, ms := range raw.ResentMs[:min(int(raw.Resent), len(raw.ResentMs))] {
		h.Resent = append(h.Resent, time.Duration(ms)*time.Millisecond)
	}
	return h
}

func decodeOpening(raw *kernelOpening) flow.Opening {
	return flow.Opening{
		TimeNs: raw.Ns, Window: raw.Window, TTL: raw.Ttl,
		Options: append([]byte(nil), raw.Options[:min(int(raw.OptionsLen), len(raw.Options))]...),
	}
}
