package agent

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// collect runs the collector. With a folder of pins it begins when all network namespaces are entered: flows that another
// process left are told apart only then.
func (a *Agent) collect(ctx context.Context) error {
	if a.pinned {
		select {
		case <-ctx.Done():
			return nil
		case <-a.namespaces.entered:
		}
		a.takeOver(ctx)
	}
	return a.collector.Run(ctx)
}

// takeOver finishes what the last process left in the folder of pins, once everything is attached: programs that are not
// wanted any more, and maps of another layout or size.
func (a *Agent) takeOver(ctx context.Context) {
	outOfReach, err := a.kernel.Settle()
	if outOfReach > 0 {
		a.log.Warn("another process may have left filters in network namespaces that are not watched now, which stay",
			zap.Int("filters", outOfReach))
	}
	if err != nil {
		a.log.Error("what another process left attached cannot be detached; what it counted is not taken over", zap.Error(err))
		return // programs may still count there
	}
	if err := a.inheritAll(ctx); err != nil {
		a.log.Error("what another process counted is not taken over, and stays in the kernel", zap.Error(err))
	}
}

// inheritAll takes over what other processes counted, one folder of maps after the other: a start that is soon followed by a
// stop gets further than the one before it. Maps that cannot be read are in the way of no others.
func (a *Agent) inheritAll(ctx context.Context) error {
	folders, err := a.kernel.Former()
	if len(folders) > 0 {
		a.log.Info("taking over what was counted in maps of another layout or size", zap.Int("folders", len(folders)))
	}
	errs := []error{err}
	for i, folder := range folders {
		if ctx.Err() != nil {
			return errors.Join(append(errs, fmt.Errorf("%d folders of maps are left: %w", len(folders)-i, ctx.Err()))...)
		}
		errs = append(errs, a.inherit(ctx, folder))
	}
	return errors.Join(errs...)
}

// inherit removes what another process counted only when the events of it are safe. The next process makes the same events
// otherwise.
func (a *Agent) inherit(ctx context.Context, folder string) error {
	events, last, err := a.collector.Inherit(ctx, folder)
	if err != nil {
		return err
	}
	if err := a.sealed.await(ctx, last); err != nil {
		return err
	}
	spooled, ok, reason := a.deliverer.SpoolStatus()
	switch {
	case spooled && !ok:
		return errors.New(reason)
	case !spooled && ctx.Err() != nil: // a stop may not leave the time to deliver what is in memory
		return fmt.Errorf("deliver what was taken over: %w", ctx.Err())
	}
	if err := a.kernel.DropFormer(folder); err != nil {
		return err
	}
	a.log.Info("took over what was counted in a folder of maps", zap.String("folder", folder), zap.Uint64("events", events))
	return nil
}
