package config

import (
	"slices"
	"strconv"
	"strings"

	"weir/internal/flow"
)

// Decap names tunnels, with the UDP port of those that run over UDP, and 0 for the others. It is nil if there are none.
type Decap map[flow.TunnelKind]uint16

// parseDecap reads "none", or a list of tunnels with commas between, each with a port behind a colon if need be.
func parseDecap(text string) (Decap, bool) {
	if strings.EqualFold(text, "none") {
		return nil, true
	}
	decap := Decap{}
	for item := range strings.SplitSeq(text, ",") {
		name, portText, hasPort := strings.Cut(strings.TrimSpace(item), ":")
		i := slices.IndexFunc(flow.TunnelKinds(), func(k flow.TunnelKind) bool { return strings.EqualFold(k.String(), name) })
		if i < 0 {
			return nil, false
		}
		kind := flow.TunnelKinds()[i]
		port := kind.DefaultPort()
		if hasPort {
			n, err := strconv.ParseUint(portText, 10, 16)
			if err != nil || n == 0 || port == 0 {
				return nil, false
			}
			port = uint16(n)
		}
		if _, twice := decap[kind]; twice || !decap.free(port) {
			return nil, false
		}
		decap[kind] = port
	}
	return decap, true
}

// free says whether a UDP port leads to no tunnel yet.
func (d Decap) free(port uint16) bool {
	for _, taken := range d {
		if port != 0 && port == taken {
			return false
		}
	}
	return true
}
