package datapath

import (
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// TestSingleIdle ends connections of a single packet by a limit of their own: not one that was answered, nor one whose counters
// begin anew because a part of it was handed over, nor by a limit that is longer than the others'.
func TestSingleIdle(t *testing.T) {
	const never = time.Hour
	there, back := testnet.UDP(client, server, 10).Bytes(), testnet.UDP(server, client, 10).Bytes()
	syn := testnet.TCP(client, server, testnet.SYN, 0).Bytes()
	patient := flow.Limits{TCPIdle: never, OtherIdle: never, Active: never, Linger: never, SingleIdle: 1}
	parts := patient
	parts.Active, parts.SingleIdle = 0, 0
	k := newKernel(t, 1024)
	sweep := func(limits flow.Limits) []flow.Record {
		records, _ := k.records(t, func() (flow.Resident, bool, error) { return k.Sweep(now(), limits) })
		return records
	}
	for _, row := range []struct {
		name    string
		before  [][]byte // handed over in part
		frames  [][]byte
		limits  flow.Limits
		records int
	}{
		{"one datagram", nil, [][]byte{there}, patient, 1},
		{"one segment", nil, [][]byte{syn}, patient, 1},
		{"two packets", nil, [][]byte{there, there}, patient, 0},
		{"an answer", nil, [][]byte{there, back}, patient, 0},
		{"one in each of two parts", [][]byte{there}, [][]byte{there}, patient, 0},
		{"none since the first part", [][]byte{there}, nil, patient, 0},
		{"no limit of their own", nil, [][]byte{there}, flow.Limits{TCPIdle: never, OtherIdle: never, Active: never}, 0},
		{"a longer limit of their own", nil, [][]byte{there}, flow.Limits{Active: never, SingleIdle: never}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, frame := range row.before {
				k.run(t, kernelProgXdpIngress, frame, nil)
			}
			if records := sweep(parts); len(records) != len(row.before) {
				t.Fatalf("%d records of parts, want %d", len(records), len(row.before))
			}
			for _, frame := range row.frames {
				k.run(t, kernelProgXdpIngress, frame, nil)
			}
			records := sweep(row.limits)
			if len(records) != row.records {
				t.Errorf("%d records, want %d", len(records), row.records)
			}
			for _, r := range records {
				if r.EndReason != flow.EndIdle {
					t.Errorf("ended by %s, want idle", r.EndReason)
				}
			}
			k.records(t, k.SweepOut)
		})
	}
}
