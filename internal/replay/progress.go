package replay

import (
	"fmt"
	"io"
	"time"
)

const (
	progressAfter = time.Second // what takes less needs none
	progressPause = time.Second / 5
	progressEvery = 1 << 10 // packets between two looks at the time
)

// progress is a line on a terminal that says how far the reading is.
type progress struct {
	out   io.Writer // nil: no terminal
	size  int64     // of the capture, 0 if unknown
	next  time.Time
	shown bool
}

func (p *progress) show(read int64, packets uint64) {
	now := time.Now()
	if p.out == nil || now.Before(p.next) {
		return
	}
	p.next, p.shown = now.Add(progressPause), true
	const mega = 1_000_000
	of := ""
	if p.size > 0 {
		of = fmt.Sprintf(" of %d MB, %d %%", p.size/mega, min(100, 100*read/p.size))
	}
	fmt.Fprintf(p.out, "\r\x1b[K%d packets, %d MB%s", packets, read/mega, of)
}

// erase leaves the terminal as if nothing had been shown.
func (p *progress) erase() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
