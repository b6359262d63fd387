package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestRefusals lists them by name, escaped, and not all of very many.
func TestRefusals(t *testing.T) {
	var many []refusal
	for i := range refusalsListed + 5 {
		many = append(many, refusal{name: fmt.Sprintf("if%02d", 99-i), err: errors.New("no\nroom")})
	}
	for _, n := range []int{0, 1, refusalsListed, refusalsListed + 5} {
		list := refusals("attach", " there", slices.Clone(many[:n]))
		if want := min(n, refusalsListed+1); len(list) != want {
			t.Errorf("%d lines of %d refusals, want %d", len(list), n, want)
		}
		if n == 0 {
			continue
		}
		first, last := list[0], list[len(list)-1]
		if want := fmt.Sprintf(`attach "if%02d" there`, 100-n); first.OK || first.Name != want || first.Detail != `"no\nroom"` {
			t.Errorf("the first of %d is %+v, want %s", n, first, want)
		}
		if n > refusalsListed && (last.OK || last.Name != "attach there" || last.Detail != "and 5 more") {
			t.Errorf("the last of %d is %+v, want 5 more", n, last)
		}
	}
}
