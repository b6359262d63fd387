// Package known holds what is known of fingerprints from elsewhere and from before: a database of the programs that they
// are of, a list of bad ones, and which ones were seen on this network already.
package known

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Config names the files. There need not be any.
type Config struct {
	DatabasePath, BadPath, MemoryPath string
	Learn                             time.Duration // how long after a memory began nothing is new to it
}

// Known is all that is known of fingerprints.
type Known struct {
	Database, Bad *List
	memory        *Memory
	log           *zap.Logger
}

// New returns what Load reads.
func New(cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Known, error) {
	k := &Known{
		Database: NewDatabase(cfg.DatabasePath, log),
		Bad:      NewBadList(cfg.BadPath, log),
		memory:   NewMemory(cfg.MemoryPath, cfg.Learn, log),
		log:      log,
	}
	return k, k.register(reg)
}

// Load reads the files. Its error says which of them it cannot read, and why.
func (k *Known) Load(now time.Time) error {
	return errors.Join(k.Database.Load(), k.Bad.Load(), k.memory.Load(now))
}

// Open writes the memory after Load, and fails at once if that cannot be done. Without it the files are only read, unless Run
// follows.
func (k *Known) Open() error { return k.memory.Open() }

// See remembers a fingerprint of a method, and says whether it is new on this network.
func (k *Known) See(method, value string, now time.Time) (isNew bool) {
	return k.memory.See(method, value, now)
}

// Run reads the files again when they have changed, and writes the memory, until ctx ends.
func (k *Known) Run(ctx context.Context) error {
	ticker := time.NewTicker(recheckEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := k.memory.Close(); err != nil {
				k.log.Error("the memory of fingerprints is not saved", zap.Error(err))
			}
			return nil
		case now := <-ticker.C:
			k.Database.Refresh(now)
			k.Bad.Refresh(now)
			k.memory.Save(now)
		}
	}
}
