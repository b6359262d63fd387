// Command weir counts every packet on a host's network interfaces inside the Linux kernel and reports the flows they
// belong to.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"weir/internal/agent"
	"weir/internal/config"
	"weir/internal/datapath"
)

// Set by the linker; see the Makefile.
var (
	version = "dev"
	commit  = "unknown"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// A closed standard output is an error of the write, not the end of the process: what is left can still be counted.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is main with its surroundings handed in. Any failure is one line on stderr.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	invocation, err := config.Parse(args, environ, stdout)
	if err != nil {
		return fail(stderr, exitUsage, err)
	}
	switch invocation.Command {
	case config.CommandVersion:
		fmt.Fprintf(stdout, "weir %s\ncommit %s\nkernel object %s\n", version, commit, datapath.ObjectHash())
	case config.CommandRun:
		if err := runAgent(ctx, invocation, stdout, stderr); err != nil {
			return fail(stderr, exitFailed, err)
		}
	}
	return exitOK
}

func runAgent(ctx context.Context, invocation config.Invocation, stdout, stderr io.Writer) error {
	log := newLogger(stderr, invocation.Settings.LogLevel, invocation.Settings.LogFormat)
	defer func() { _ = log.Sync() }() // a terminal cannot be synced
	for _, notice := range invocation.Notices {
		log.Info(notice)
	}
	a, err := agent.Start(invocation.Settings, agent.Build{Version: version, Commit: commit}, stdout, log)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

func fail(stderr io.Writer, code int, err error) int {
	fmt.Fprintf(stderr, "weir: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	return code
}
