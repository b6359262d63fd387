package tracker

import (
	"slices"
	"strings"
	"time"
)

// A history keeps its first events, which say how the connection began, and its latest ones.
const (
	firstEvents  = 100
	latestEvents = 900
)

// longestValue is how many bytes a history keeps of a value. Raw forms can have thousands, of what anybody sends.
const longestValue = 512

// maxHistories is how many bytes the histories of all connections of a Tracker take. From there on one that grows begins anew with its
// latest value: who sends most pays for it, and a connection that has only just said hello is not forgotten for others.
const maxHistories = 64 << 20

// FingerprintEvent is one observed fingerprint, when it was seen and by which packet of the connection.
type FingerprintEvent struct {
	Value     string    `json:"value"`
	SeenAt    time.Time `json:"seen_at"`
	PacketNum uint64    `json:"packet_num"`
}

// size returns about how many bytes of memory it takes.
func (e *FingerprintEvent) size() int {
	const fixed = 48 // on machines of 64 bits
	return fixed + len(e.Value)
}

// room is what the histories of all connections take, in bytes.
type room struct{ taken int }

// AddFingerprint adds a value to the history of its type, unless the last one is the same or it is "". packetNum says
// which packet of the connection completed it.
func (c *Connection) AddFingerprint(fpType, fingerprint string, seenAt time.Time, packetNum uint64) {
	c.addEvent(&c.Fingerprints, fpType, FingerprintEvent{fingerprint, seenAt, packetNum})
}

// AddRawFingerprint is AddFingerprint for the unhashed form.
func (c *Connection) AddRawFingerprint(fpType, raw string, seenAt time.Time, packetNum uint64) {
	c.addEvent(&c.RawFPs, fpType, FingerprintEvent{raw, seenAt, packetNum})
}

// addEvent makes room in a full history by moving the first events over the oldest of the latest ones: those are fewer
// than the latest, and append finds a new place for all of them only now and then.
func (c *Connection) addEvent(histories *map[string][]FingerprintEvent, fpType string, event FingerprintEvent) {
	fpType = strings.ToLower(fpType)
	history := (*histories)[fpType]
	if len(event.Value) > longestValue {
		event.Value = strings.Clone(event.Value[:longestValue])
	}
	if event.Value == "" || len(history) > 0 && history[len(history)-1].Value == event.Value {
		return
	}
	switch {
	case len(history) > 1 && c.room != nil && c.room.taken+event.size() > maxHistories:
		for i := range history[1:] {
			c.grow(-history[i].size())
		}
		history = slices.Clone(history[len(history)-1:])
	case len(history) == firstEvents+latestEvents:
		c.grow(-history[firstEvents].size())
		copy(history[1:], history[:firstEvents])
		history = history[1:]
	}
	if *histories == nil { // most connections have none
		*histories = make(map[string][]FingerprintEvent)
	}
	c.grow(event.size())
	(*histories)[fpType] = append(history, event)
}

// extend adds all events of other histories.
func (c *Connection) extend(histories *map[string][]FingerprintEvent, others map[string][]FingerprintEvent) {
	for fpType, history := range others {
		for _, event := range history {
			c.addEvent(histories, fpType, event)
		}
	}
}

// grow notes that the histories take so many bytes more.
func (c *Connection) grow(bytes int) {
	c.size += bytes
	if c.room != nil {
		c.room.taken += bytes
	}
}

// leave gives back the room of a connection that is in a Tracker no more.
func (c *Connection) leave() {
	c.room.taken -= c.size
	c.room = nil
}

func copyHistories(histories map[string][]FingerprintEvent) map[string][]FingerprintEvent {
	if histories == nil {
		return nil
	}
	copies := make(map[string][]FingerprintEvent, len(histories))
	for fpType, history := range histories {
		copies[fpType] = slices.Clone(history)
	}
	return copies
}
