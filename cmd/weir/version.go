package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"weir/internal/agent"
	"weir/internal/datapath"
)

// Set by the linker, for builds that see no repository or may not ask it; see the Makefile. Otherwise Go knows them.
var version, commit string

// build says what is running.
func build() agent.Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return agent.Build{
		Version: cmp.Or(version, info.Main.Version, "unknown"),
		Commit:  cmp.Or(commit, revision(info.Settings), "unknown"),
	}
}

// revision returns the commit that Go built from, and whether files differed from it; "" if Go did not look.
func revision(settings []debug.BuildSetting) string {
	of := map[string]string{}
	for _, s := range settings {
		of[s.Key] = s.Value
	}
	if of["vcs.modified"] == "true" {
		return of["vcs.revision"] + "-dirty"
	}
	return of["vcs.revision"]
}

func writeVersion(w io.Writer) error {
	b := build()
	_, err := fmt.Fprintf(w, "weir %s\ncommit %s\nbuilt by %s for %s/%s\nkernel object %s\n",
		b.Version, b.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, datapath.ObjectHash())
	if err != nil {
		return fmt.Errorf("write the version: %w", err)
	}
	return nil
}
