package flow

// Direction says where a flow runs as seen from this host.
type Direction uint8

// The values of Direction.
const (
	DirectionUnknown  Direction = iota // neither end is local: forwarded
	DirectionOutbound                  // the source is local, the destination is not
	DirectionInbound                   // the destination is local, the source is not
	DirectionLocal                     // both are local
	directions
)

var directionNames = [directions]string{"unknown", "outbound", "inbound", "local"}

// DirectionOf returns the direction of a flow whose source and destination are, or are not, addresses of this host.
func DirectionOf(srcLocal, dstLocal bool) Direction {
	switch {
	case srcLocal && dstLocal:
		return DirectionLocal
	case srcLocal:
		return DirectionOutbound
	case dstLocal:
		return DirectionInbound
	default:
		return DirectionUnknown
	}
}

// String returns the name that FlowEvents carry.
func (d Direction) String() string {
	if d >= directions {
		return "unknown"
	}
	return directionNames[d]
}
