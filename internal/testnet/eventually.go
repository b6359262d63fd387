package testnet

import (
	"testing"
	"time"
)

// patience is how long Eventually waits: far more than anything takes on a busy machine.
const patience = 20 * time.Second

// Eventually polls until holds does, and fails the test if it never does.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}
