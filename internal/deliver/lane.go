package deliver

// lane is a row of batches, oldest first.
type lane []*flight

func (l *lane) push(f *flight) { *l = append(*l, f) }

// front returns the oldest batch, or nil.
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
