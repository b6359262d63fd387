// Package netwatch calls back when the kernel's network configuration has changed. It passes on that something changed,
// not what: who is called lists anew, and cannot miss or misread an update.
package netwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Groups of changes, as rtnetlink(7) names them.
const (
	Links         = unix.RTNLGRP_LINK
	IPv4Addresses = unix.RTNLGRP_IPV4_IFADDR
	IPv6Addresses = unix.RTNLGRP_IPV6_IFADDR
	IPv4Routes    = unix.RTNLGRP_IPV4_ROUTE // default routes only, as the next
	IPv6Routes    = unix.RTNLGRP_IPV6_ROUTE
)

const (
	settle = 100 * time.Millisecond // changes come in bursts: one call serves all that come within this time
	retry  = time.Second            // between a failure and the next try
	idle   = 10 * time.Second       // without a change; not everything is announced

	listings = 10 // tries of Whole
)

// Run calls refresh at once, after every change in one of the groups, and after 10 s without, until ctx ends. Errors of
// refresh and of netlink are logged, and all is tried again: netlink drops a listener that falls behind.
func Run(ctx context.Context, log *zap.Logger, refresh func() error, groups ...uint) error {
	for ctx.Err() == nil {
		if err := follow(ctx, refresh, groups); err != nil {
			log.Warn("following the network configuration was interrupted", zap.Error(err))
			pause(ctx, retry)
		}
	}
	return nil
}

// follow refreshes as Run says until ctx ends (nil) or something fails.
func follow(ctx context.Context, refresh func() error, groups []uint) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return fmt.Errorf("subscribe to changes: %w", err)
	}
	changed, failed := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		defer close(failed)
		failed <- receive(socket, changed)
	}()
	defer func() {
		socket.Close()
		for range failed { // until receive has ended
		}
	}()
	return refreshAfter(ctx, refresh, changed, failed)
}

// receive says that something changed until the socket fails or is closed.
func receive(socket *nl.NetlinkSocket, changed chan<- struct{}) error {
	for {
		messages, _, err := socket.Receive()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(messages, matters) {
			say(changed)
		}
	}
}

// matters leaves out changes of routes that are not default routes: where there are many, they always change.
func matters(m syscall.NetlinkMessage) bool {
	isRoute := m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE
	return !isRoute || len(m.Data) > 1 && m.Data[1] == 0 // rtm_dst_len, rtnetlink(7)
}

func say(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default: // it was said already and not heard yet
	}
}

// refreshAfter refreshes at once, and again when what was said to have changed has settled, or nothing was for long, until
// ctx ends.
func refreshAfter(ctx context.Context, refresh func() error, changed <-chan struct{}, failed <-chan error) error {
	for ctx.Err() == nil {
		if err := refresh(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case err := <-failed:
			return fmt.Errorf("receive changes: %w", err)
		case <-changed:
			pause(ctx, settle)
		case <-time.After(idle):
		}
		select {
		case <-changed: // meanwhile: the refresh to come will see it
		default:
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Whole lists by netlink, and lists again when a change meanwhile may have left something out. Then the kernel sets
// NLM_F_DUMP_INTR (its Documentation/userspace-api/netlink/intro.rst, "Dump consistency"). If that does not end, neither
// does the error.
func Whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range listings {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
