package replay

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"weir/internal/flow"
)

// Books say what became of every packet of a capture.
type Books struct {
	Events uint64
	Ledger flow.Ledger
}

// books closes them, when nothing is left in the map.
func (r *Replay) books() (Books, error) {
	ledger, err := r.kernel.Ledger()
	return Books{Events: r.written, Ledger: ledger}, err
}

// Seen returns what the kernel side was given.
func (b *Books) Seen() (seen flow.Counter) {
	for _, c := range b.Ledger.Seen {
		seen.Packets += c.Packets
		seen.Bytes += c.Bytes
	}
	return seen
}

// Unaccounted returns how much of what was counted was neither handed over nor evicted. It must be 0.
func (b *Books) Unaccounted() (packets, bytes int64) {
	of := func(counted, exported, evicted uint64) int64 { return int64(counted - exported - evicted) }
	l := &b.Ledger
	return of(l.Counted.Packets, l.Exported.Packets, l.Evicted.Packets), of(l.Counted.Bytes, l.Exported.Bytes, l.Evicted.Bytes)
}

// Write writes the books as a table, for people.
func (b *Books) Write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	const none = "-"
	row := func(name string, of flow.Counter, connections string) {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t\n", name, of.Packets, of.Bytes, connections)
	}
	fmt.Fprint(table, "\tpackets\tbytes\tconnections\t\n")
	row("seen", b.Seen(), none)
	for _, reason := range slices.Sorted(maps.Keys(b.Ledger.Uncounted)) {
		if c := b.Ledger.Uncounted[reason]; c.Packets > 0 {
			row(reason, c, none)
		}
	}
	row("counted", b.Ledger.Counted, fmt.Sprint(b.Ledger.Inserts))
	if unopened := b.Ledger.Unopened; unopened > 0 {
		fmt.Fprintf(table, "of which not unwrapped\t%d\t%s\t%s\t\n", unopened, none, none)
	}
	row("exported", b.Ledger.Exported, fmt.Sprint(b.Ledger.Deletes))
	row("evicted", b.Ledger.Evicted, fmt.Sprint(b.Ledger.Evictions))
	packets, bytes := b.Unaccounted()
	fmt.Fprintf(table, "unaccounted\t%d\t%d\t%s\t\n", packets, bytes, none)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if _, err := fmt.Fprintf(w, "events: %d\n", b.Events); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}
