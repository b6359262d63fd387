package identify

import (
	"container/list"
	"slices"
	"time"

	"weir/internal/flow"
	"weir/internal/tracker"
)

// An event has the latest fingerprints of a method: so many, of so many bytes together, but at least one.
const (
	mostTold      = 32
	mostToldBytes = 4 << 10
)

// talk is what is kept of a connection beside what the tracker has of it.
type talk struct {
	Conversation
	held    int           // bytes of memory, as it was last looked at
	holding *list.Element // in Identifier.holding; nil if held is 0

	values  []values
	appRank int // of the method that the program was named by; 0 if it has no name
	bad     string
	news    string
	rtt     time.Duration
	voted   bool            // for the usual MSS
	sent    [2]flow.Counter // by end, in the records until now
	v6      bool

	sightings []sighting // fingerprints that may be new, once the connection is answered
	resting   bool       // it was idle for so long that its last record should have been told
	begunNs   uint64     // when the first sample came, if there is a former
	former    *former
}

// values are the fingerprints of a method that the next event tells of: those that came since the last one or, if none did, the
// same again.
type values struct {
	method flow.Method
	told   bool
	list   []string
	size   int // bytes in list
}

// add notes a fingerprint.
func (t *talk) add(m flow.Method, value string) {
	i := slices.IndexFunc(t.values, func(v values) bool { return v.method == m })
	if i < 0 {
		i = len(t.values)
		t.values = append(t.values, values{method: m})
	}
	v := &t.values[i]
	if v.told {
		v.told, v.list, v.size = false, nil, 0
	}
	if value == "" || slices.Contains(v.list, value) {
		return
	}
	v.size += len(value)
	for len(v.list) > 0 && (len(v.list) == mostTold || v.size > mostToldBytes) {
		v.size -= len(v.list[0])
		v.list = slices.Delete(v.list, 0, 1)
	}
	v.list = append(v.list, value)
}

// tell fills in what an event says.
func (t *talk) tell(to *flow.Identity, c *tracker.Connection) {
	*to = flow.Identity{
		ServerName: t.facts.ServerName, ALPN: t.facts.ALPN, TLSVersion: t.facts.TLSVersion,
		App: c.IdentifiedApp, KnownBad: c.IsKnownBad, New: c.IsNew,
		MSS: uint16(c.MSSValue), Tunnel: c.TunnelIndicator, SSHSession: c.SSHSessionType,
		HandshakeRTT: t.rtt, Anomalies: c.Anomalies,
	}
	for i := range t.values {
		v := &t.values[i]
		v.told = true
		to.Fingerprints[v.method] = v.list
	}
}

// answered says whether the server sent a ServerHello or, by the counters, what has room for one behind its headers: a ServerHello may
// not have been sampled.
func (t *talk) answered(k flow.Key) bool {
	const (
		headersIPv4, headersIPv6 = 14 + 20 + 32, 14 + 40 + 32 // Ethernet, IP, and TCP with timestamps
		leastHello               = 5 + 4 + 38                 // record, message, and what every ServerHello has
	)
	server := &t.sent[1-t.client(k)]
	headers := uint64(headersIPv4)
	if t.v6 {
		headers = headersIPv6
	}
	return t.facts.SawServerHello || server.Bytes >= server.Packets*headers+leastHello
}

// unanswered says whether it is known that the server did not answer.
func (t *talk) unanswered(k flow.Key) bool {
	return t.sent[1-t.client(k)].Packets > 0 && !t.answered(k)
}
