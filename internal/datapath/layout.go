package datapath

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// layout says where each member of a kernel type is, by its name: of a later kernel side too, which has its members in other
// places, the ones that both know can be read.
type layout map[string]field

type field struct{ offset, size uintptr }

// layoutOf describes a type that is made of structs, arrays and numbers.
func layoutOf(t reflect.Type) layout {
	l := layout{}
	l.add("", 0, t)
	return l
}

func (l layout) add(name string, offset uintptr, t reflect.Type) {
	switch {
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Name != "_" {
				l.add(name+"."+f.Name, offset+f.Offset, f.Type)
			}
		}
	case t.Kind() == reflect.Array && t.Elem().Kind() != reflect.Uint8:
		for i := range t.Len() {
			l.add(fmt.Sprintf("%s.%d", name, i), offset+uintptr(i)*t.Elem().Size(), t.Elem())
		}
	default:
		l[name] = field{offset, t.Size()}
	}
}

// text has a line for each member, so that equal layouts have equal texts.
func (l layout) text() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(l)) {
		fmt.Fprintln(&b, name, l[name].offset, l[name].size)
	}
	return b.String()
}

// parseLayout reads what text wrote.
func parseLayout(text string) (layout, error) {
	l := layout{}
	for line := range strings.Lines(text) {
		var name string
		var f field
		if _, err := fmt.Sscan(line, &name, &f.offset, &f.size); err != nil {
			return nil, fmt.Errorf("read the layout %q: %w", line, err)
		}
		l[name] = f
	}
	return l, nil
}

// convert copies the members that both layouts have, in the same size.
func convert(to []byte, toLayout layout, from []byte, fromLayout layout) {
	for name, t := range toLayout {
		f, ok := fromLayout[name]
		if ok && f.size == t.size && f.offset+f.size <= uintptr(len(from)) {
			copy(to[t.offset:t.offset+t.size], from[f.offset:])
		}
	}
}
