package tracker

// What an IP and a TCP header without options take of a link's MTU: the MSS is the rest (RFC 6691).
const (
	headersIPv4 = 20 + 20
	headersIPv6 = 40 + 20
)

// link is what a range of MTUs, in bytes, is usual for.
type link struct {
	first, last int
	name        string
	tunnel      bool // else it is an access line, which has no more to say
}

// links are searched from the top. The MTUs are what is left of 1500 by what each protocol puts around a packet; the last
// two are ranges and habits more than arithmetic.
var links = []link{
	{1492, 1492, "PPPoE", false},
	{1480, 1480, "IPIP or 6in4", true},
	{1476, 1476, "GRE", true},
	{1450, 1450, "VXLAN or Geneve", true},
	{1440, 1440, "WireGuard over IPv4", true},
	{1420, 1420, "WireGuard", true},
	{1412, 1412, "WireGuard over PPPoE", true},
	{1400, 1446, "IPsec ESP", true},
	{1280, 1280, "overlay network", true},
}

// Tunnel returns what an announced MSS, in bytes, says of a link on the way: "possible WireGuard" for example, and "" if
// it says nothing. It is possible, not certain: mobile networks have such MTUs as well, and routers rewrite the MSS. The
// same MSS means different links over IPv4 and IPv6.
func Tunnel(mss uint16, v6 bool) string {
	if l := findLink(mss, v6); l != nil {
		return "possible " + l.name
	}
	return ""
}

func findLink(mss uint16, v6 bool) *link {
	mtu := int(mss) + headersIPv4
	if v6 {
		mtu = int(mss) + headersIPv6
	}
	for i := range links {
		if l := &links[i]; l.first <= mtu && mtu <= l.last {
			return l
		}
	}
	return nil
}

// UsualMSS finds out which MSS more than half of a network's openers announce, in constant space: each vote for another
// value takes one from the leader (Boyer and Moore's majority vote). One counts for one IP version. The zero value is
// ready.
type UsualMSS struct {
	leader uint16
	lead   int
}

const (
	enoughLead = 16    // to believe the leader
	mostLead   = 1_000 // so that it does not take long to notice another network
)

// Add counts a vote.
func (u *UsualMSS) Add(mss uint16) {
	switch {
	case u.lead == 0:
		u.leader, u.lead = mss, 1
	case u.leader == mss:
		u.lead = min(u.lead+1, mostLead)
	default:
		u.lead--
	}
}

// Value returns the usual MSS in bytes, or 0 if there is none.
func (u *UsualMSS) Value() uint16 {
	if u.lead < enoughLead {
		return 0
	}
	return u.leader
}
