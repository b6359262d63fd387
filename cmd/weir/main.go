// Command weir counts every packet on a host's network interfaces inside the Linux kernel and reports the flows they
// belong to.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"weir/internal/agent"
	"weir/internal/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

var stopSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}

func main() {
	// A closed standard output is an error of the write, not the end of the process: what is left can still be counted.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals...)
	// A second signal does not wait for the first one's stop.
	context.AfterFunc(ctx, func() { time.AfterFunc(sameRequest, stop) })
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its surroundings handed in. Any failure is one line on stderr.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	invocation, err := config.Parse(args, environ, stdout)
	if err != nil {
		return fail(stderr, exitUsage, err)
	}
	switch invocation.Command {
	case config.CommandVersion:
		if err := writeVersion(stdout); err != nil {
			return fail(stderr, exitFailed, err)
		}
	case config.CommandReplay:
		if err := replay(ctx, invocation, stdin, stdout, stderr); err != nil {
			return fail(stderr, exitFailed, err)
		}
	case config.CommandUnpin:
		if err := unpin(invocation.Settings, stdout); err != nil {
			return fail(stderr, exitFailed, err)
		}
	case config.CommandRun:
		if err := runAgent(ctx, invocation, stdout, stderr); err != nil {
			return fail(stderr, exitFailed, err)
		}
	}
	return exitOK
}

// unpin can be repeated: that there is no folder is success too, but is told, for the path may be a wrong one.
func unpin(s config.Settings, stdout io.Writer) error {
	found, err := agent.Unpin(s)
	if err != nil {
		return err
	}
	outcome := "nothing of weir's is left in"
	if !found {
		outcome = "nothing of weir's is there: there is no"
	}
	if _, err := fmt.Fprintln(stdout, outcome, oneLine(s.PinDir)); err != nil {
		return fmt.Errorf("say what was removed: %w", err)
	}
	return nil
}

// replay shows its progress to who sees neither the events nor a log go by.
func replay(ctx context.Context, invocation config.Invocation, stdin io.Reader, stdout, stderr io.Writer) error {
	streams := agent.Streams{In: stdin, Out: stdout, Err: stderr}
	if isTerminal(stderr) && !isTerminal(stdout) {
		streams.Progress = stderr
	}
	return agent.Replay(ctx, invocation.Settings, invocation.File, streams)
}

func runAgent(ctx context.Context, invocation config.Invocation, stdout, stderr io.Writer) error {
	log := newLogger(stderr, invocation.Settings.LogLevel, invocation.Settings.LogFormat)
	defer func() { _ = log.Sync() }() // a terminal cannot be synced
	for _, notice := range invocation.Notices {
		log.Warn(notice)
	}
	ended := make(chan struct{})
	defer close(ended)
	a := agent.New(invocation.Settings, build(), stdout, log)
	go insist(ctx, invocation.Settings.StopTimeout+stopGrace, ended, a.GiveUp)
	return a.Run(ctx)
}

const (
	// sameRequest is how soon after the first a second signal is not another: timeout(1) signals its child, then its own
	// process group, which the child is of.
	sameRequest = 500 * time.Millisecond
	// stopGrace is how much longer than the stop timeout a stop may take: to detach, to sweep a large map, and for a disk
	// that does not answer.
	stopGrace = 5 * time.Second
	// lastWords is how long the end may take to be told.
	lastWords = time.Second
)

// insist ends the process if a stop has not ended in time, as when its own log cannot be written, or at another signal; tell
// says what is lost. The kernel then detaches what was attached, but for filters of clsact, which the next start replaces.
func insist(ctx context.Context, timeout time.Duration, ended <-chan struct{}, tell func()) {
	select {
	case <-ctx.Done():
	case <-ended:
		return
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, stopSignals...)
	defer signal.Stop(again)
	if !outstayed(timeout, again, ended) {
		return
	}
	signal.Stop(again) // one more ends this too
	told := make(chan struct{})
	go func() {
		defer close(told)
		tell()
	}()
	select {
	case <-told:
	case <-time.After(lastWords):
	}
	os.Exit(exitFailed)
}

// outstayed says whether a stop that begins now has no end within a time, or before somebody asks again for it.
func outstayed(timeout time.Duration, again <-chan os.Signal, ended <-chan struct{}) bool {
	over := time.After(timeout)
	for begin := time.Now(); ; {
		select {
		case <-over:
			return true
		case <-again:
			if time.Since(begin) >= sameRequest {
				return true
			}
		case <-ended:
			return false
		}
	}
}

func fail(stderr io.Writer, code int, err error) int {
	fmt.Fprintf(stderr, "weir: %s\n", oneLine(err.Error()))
	return code
}
