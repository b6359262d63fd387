package collect

import (
	"time"

	"weir/internal/flow"
)

// batch is how many connections are taken at once at the most.
const batch = 1024

// lingering holds closed connections, in the order of their closing, until each has lingered: the last ACK and
// retransmissions then land in their flow, and do not make a ghost flow of one packet.
type lingering struct {
	linger time.Duration
	most   int // to hold
	queue  []flow.Closing
	head   int // of the queue: what is before it is gone
}

// push adds a connection. With as many as the map can hold there are some among them that it evicted; those beyond are
// left to the sweep.
func (l *lingering) push(c flow.Closing) {
	if len(l.queue)-l.head < l.most {
		l.queue = append(l.queue, c)
	}
}

// due returns the connections at the front that have lingered by now, at most batch of them.
func (l *lingering) due(mono uint64) []flow.Closing {
	end := l.head
	for end < len(l.queue) && end-l.head < batch && l.queue[end].AtNs+uint64(l.linger) <= mono {
		end++
	}
	return l.queue[l.head:end]
}

// pop forgets the first n.
func (l *lingering) pop(n int) {
	l.head += n
	if l.head*2 >= len(l.queue) { // more room is free than is used
		l.queue = l.queue[:copy(l.queue, l.queue[l.head:])]
		l.head = 0
	}
}
