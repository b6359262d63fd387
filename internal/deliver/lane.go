package deliver

import "slices"

// lane is a row of batches, oldest first unless insert orders it.
type lane []*flight

func (l *lane) push(f *flight) { *l = append(*l, f) }

// insert puts a batch into a lane that is in the order in which batches are due.
func (l *lane) insert(f *flight) {
	i, _ := slices.BinarySearchFunc(*l, f, func(other, f *flight) int { return other.due.Compare(f.due) })
	*l = slices.Insert(*l, i, f)
}

func (l *lane) remove(f *flight) {
	*l = slices.DeleteFunc(*l, func(other *flight) bool { return other == f })
}

// front returns the first batch, or nil.
func (l lane) front() *flight {
	if len(l) == 0 {
		return nil
	}
	return l[0]
}

// pop takes the front, if there is one.
func (l *lane) pop() *flight {
	f := l.front()
	if f != nil {
		(*l)[0] = nil // its memory is let go with it
		*l = (*l)[1:]
	}
	return f
}
