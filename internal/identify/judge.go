package identify

import (
	"slices"
	"strings"
	"time"

	"weir/internal/flow"
	"weir/internal/tracker"
)

// naming are the methods that a program's name is looked up by: those that tell most of it come last.
var naming = []flow.Method{flow.JA4TS, flow.JA4T, flow.JA4S, flow.JA4X, flow.JA4H, flow.JA4}

// judge looks up what is known of a fingerprint, and of a JA4 once more when the answer to it is known.
func (i *Identifier) judge(c *tracker.Connection, t *talk, method flow.Method, value string, at time.Time) {
	switch method {
	case flow.JA4:
		i.lookUp(c, t, method, value, c.LatestFingerprint("ja4s"))
	case flow.JA4S:
		i.lookUp(c, t, method, value, "")
		if ja4 := c.LatestFingerprint("ja4"); ja4 != "" {
			i.lookUp(c, t, flow.JA4, ja4, value)
		}
	default:
		i.lookUp(c, t, method, value, "")
	}
	t.sight(method, value, at)
}

// sighting is a fingerprint that is to be remembered.
type sighting struct {
	method      flow.Method
	kept, value string // what is remembered of it, and all of it
	at          time.Time
}

// mostSightings bounds those that wait for an answer, or for the next record, each of which is another.
const mostSightings = 32

// sight notes a fingerprint that may be new.
func (t *talk) sight(method flow.Method, value string, at time.Time) {
	kept, ok := memorable(method, value)
	again := func(s sighting) bool { return s.method == method && s.kept == kept }
	if ok && len(t.sightings) < mostSightings && !slices.ContainsFunc(t.sightings, again) {
		t.sightings = append(t.sightings, sighting{method, kept, value, at})
	}
}

// see remembers the fingerprints of a connection that was answered. Else whoever sends hellos to where nobody listens, from any
// address, could have every one of them called new, and those of this network forgotten. DHCP is answered in another flow.
func (i *Identifier) see(c *tracker.Connection, t *talk, k flow.Key) {
	answered := t.answered(k)
	t.sightings = slices.DeleteFunc(t.sightings, func(s sighting) bool {
		if !answered && s.method != flow.JA4D && s.method != flow.JA4D6 {
			return false
		}
		if i.cfg.Known.See(s.method.String(), s.kept, s.at) && !c.IsNew {
			c.IsNew, t.news = true, s.method.String()+" "+s.value
		}
		return true
	})
	if len(t.sightings) == 0 {
		t.sightings = nil // of many connections
	}
}

func (i *Identifier) lookUp(c *tracker.Connection, t *talk, method flow.Method, value, ja4s string) {
	name := method.String()
	if rank := 1 + slices.Index(naming, method); rank >= max(t.appRank, 1) {
		if app := i.cfg.Known.Database.Lookup(name, value, ja4s); app != "" {
			c.IdentifiedApp, t.appRank = app, rank
		}
	}
	if c.IsKnownBad {
		return
	}
	if reason := i.cfg.Known.Bad.Lookup(name, value, ja4s); reason != "" {
		c.IsKnownBad, t.bad = true, reason
	}
}

// memorable returns what is remembered of a fingerprint to know one that is new, or false if it tells of a path or a session and
// not of a program. Of JA4H that is how the request is made, without the cookies, of which every user has others.
func memorable(method flow.Method, value string) (string, bool) {
	switch method {
	case flow.JA4L, flow.JA4LS, flow.JA4SSH:
		return "", false
	case flow.JA4H:
		parts := strings.SplitN(value, "_", 3)
		return strings.Join(parts[:min(len(parts), 2)], "_"), true
	}
	return value, true
}
