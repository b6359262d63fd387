package flow

import "net/netip"

// Tunnel is what was around a connection's packets; of tunnels in one another, the innermost. Ends[i] is the outer address that
// end i of the connection is behind. Mirrored packets of both ends go from Ends[0] to Ends[1].
type Tunnel struct {
	Kind TunnelKind
	ID   uint32 // VNI (RFC 7348, RFC 8926), key (RFC 2890), TEID (3GPP TS 29.281) or session (ERSPAN); 0 if there is none
	Ends [2]netip.Addr
}

// Outer returns the outer addresses of the packets that an end sends, 0 or 1.
func (t *Tunnel) Outer(end int) (src, dst netip.Addr) {
	if t.Kind == TunnelERSPAN {
		end = 0
	}
	return t.Ends[end], t.Ends[1-end]
}

// TunnelKind is the protocol of a tunnel.
type TunnelKind uint8

// The values of TunnelKind, of those that weir can look into.
const (
	TunnelNone   TunnelKind = iota
	TunnelVXLAN             // RFC 7348
	TunnelGeneve            // RFC 8926
	TunnelGRE               // RFC 2784, RFC 2890
	TunnelIPIP              // IPv4 or IPv6 in either: RFC 2003, RFC 2473, RFC 4213
	TunnelGTPU              // 3GPP TS 29.281
	TunnelERSPAN            // what a switch mirrors, in GRE: draft-foschiano-erspan-03
	tunnelKinds
)

var tunnelKindNames = [tunnelKinds]string{"none", "vxlan", "geneve", "gre", "ipip", "gtpu", "erspan"}

// tunnelPorts are the UDP ports that IANA has for them.
var tunnelPorts = [tunnelKinds]uint16{TunnelVXLAN: 4789, TunnelGeneve: 6081, TunnelGTPU: 2152}

// TunnelKinds returns every TunnelKind but TunnelNone, in order.
func TunnelKinds() []TunnelKind {
	var all []TunnelKind
	for k := TunnelNone + 1; k < tunnelKinds; k++ {
		all = append(all, k)
	}
	return all
}

// String returns the name that settings and FlowEvents carry.
func (k TunnelKind) String() string {
	if k >= tunnelKinds {
		return "unknown"
	}
	return tunnelKindNames[k]
}

// DefaultPort returns the UDP port that IANA registered for the protocol, and 0 if it does not run over UDP.
func (k TunnelKind) DefaultPort() uint16 {
	if k >= tunnelKinds {
		return 0
	}
	return tunnelPorts[k]
}
