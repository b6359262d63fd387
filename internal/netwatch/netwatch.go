// Package netwatch calls back when the kernel's network configuration has changed. It passes on that something changed,
// not what: who is called lists anew, and cannot miss or misread an update.
package netwatch

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Groups of changes, as rtnetlink(7) names them.
const (
	Links         = unix.RTNLGRP_LINK
	IPv4Addresses = unix.RTNLGRP_IPV4_IFADDR
	IPv6Addresses = unix.RTNLGRP_IPV6_IFADDR
)

const (
	settle = 100 * time.Millisecond // changes come in bursts: one call serves all that come within this time
	retry  = time.Second            // between a failure and the next try
)

// Run calls refresh at once and after every change in one of the groups, until ctx ends. Errors of refresh and of
// netlink are logged, and all is tried again: netlink drops a listener that falls behind.
func Run(ctx context.Context, log *zap.Logger, refresh func() error, groups ...uint) error {
	for ctx.Err() == nil {
		if err := follow(ctx, refresh, groups); err != nil {
			log.Warn("following the network configuration was interrupted", zap.Error(err))
			pause(ctx, retry)
		}
	}
	return nil
}

// follow refreshes after every change until ctx ends (nil) or something fails.
func follow(ctx context.Context, refresh func() error, groups []uint) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return fmt.Errorf("subscribe to changes: %w", err)
	}
	changed, failed := make(chan struct{}, 1), make(chan error, 1)
	go func() { failed <- receive(socket, changed) }()
	ended := false
	defer func() {
		socket.Close()
		if !ended {
			<-failed
		}
	}()
	for {
		if err := refresh(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			ended = true
			return fmt.Errorf("receive changes: %w", err)
		case <-changed:
			pause(ctx, settle)
		}
	}
}

// receive says that something changed until the socket fails or is closed.
func receive(socket *nl.NetlinkSocket, changed chan<- struct{}) error {
	for {
		if _, _, err := socket.Receive(); err != nil {
			return err
		}
		select {
		case changed <- struct{}{}:
		default: // it was said already and not heard yet
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
