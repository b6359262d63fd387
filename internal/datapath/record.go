package datapath

import (
	"encoding/binary"
	"net/netip"

	"weir/internal/flow"
)

// live is LIVE in abi.h.
const live = 1 << kernelMeterShiftLIVE_SHIFT

// maxIfIndex is the largest interface index that an entry can hold. The kernel gives them out upwards from 1; larger ones have
// to be asked for.
const maxIfIndex = 1<<(32-kernelMeterShiftOWNER_SHIFT) - 1

// decodeRecord is where the kernel's types end.
func decodeRecord(raw *kernelRecord, rec *flow.Record) {
	rec.Key = decodeKey(&raw.Key)
	for i := range rec.Halves {
		count, half := raw.Entry.Count[i], &raw.Entry.Half[i]
		rec.Halves[i] = flow.Half{
			Packets:  uint64(uint16(half.Carried))<<kernelMeterShiftPACKETS_CARRY_SHIFT + count>>kernelMeterShiftCOUNT_SHIFT,
			Bytes:    uint64(half.Carried>>kernelMeterShiftCARRIED_SHIFT)<<kernelMeterShiftBYTES_CARRY_SHIFT + count&(1<<kernelMeterShiftCOUNT_SHIFT-1),
			FirstNs:  half.FirstNs,
			LastNs:   half.LastNs,
			TCPFlags: uint16(raw.Entry.TcpFlags >> (16 * i)),
			IfIndex:  half.Owner >> kernelMeterShiftOWNER_SHIFT,
		}
		if half.FirstNs == 0 || half.FirstNs > half.LastNs {
			// Two CPUs wrote at the same time.
			rec.Halves[i].FirstNs = half.LastNs
		}
	}
	state := kernelFlowState(raw.Entry.State)
	rec.Initiator = initiator(state)
	rec.EndReason = endReason(kernelHandover(raw.Handover), state)
}

func decodeKey(raw *kernelFlowKey) flow.Key {
	key := flow.Key{Protocol: raw.Protocol, Zone: raw.Zone, Netns: raw.Netns}
	for i := range key.Ends {
		key.Ends[i] = netip.AddrPortFrom(netip.AddrFrom16(raw.Addr[i]).Unmap(), swapPort(raw.Port[i]))
	}
	return key
}

func encodeKey(key *flow.Key) kernelFlowKey {
	raw := kernelFlowKey{Protocol: key.Protocol, Zone: key.Zone, Netns: key.Netns}
	for i, end := range key.Ends {
		raw.Addr[i], raw.Port[i] = end.Addr().As16(), swapPort(end.Port())
	}
	return raw
}

// swapPort turns a port as it is on the wire, big-endian, into a number, and back.
func swapPort(port uint16) uint16 {
	var wire [2]byte
	binary.BigEndian.PutUint16(wire[:], port)
	return binary.NativeEndian.Uint16(wire[:])
}

func initiator(state kernelFlowState) flow.Initiator {
	switch state & kernelFlowStateSTATE_OPENED {
	case kernelFlowStateSTATE_OPENED_0:
		return flow.InitiatorEnd0
	case kernelFlowStateSTATE_OPENED_1:
		return flow.InitiatorEnd1
	default:
		return flow.InitiatorUnknown
	}
}

func endReason(why kernelHandover, state kernelFlowState) flow.EndReason {
	switch {
	case why == kernelHandoverHANDOVER_ACTIVE:
		return flow.EndActive
	case why == kernelHandoverHANDOVER_SHUTDOWN && state&kernelFlowStateSTATE_CLOSED == 0:
		return flow.EndShutdown
	case why == kernelHandoverHANDOVER_IDLE:
		return flow.EndIdle
	case state&kernelFlowStateSTATE_RST != 0:
		return flow.EndRST
	default:
		return flow.EndFIN
	}
}
