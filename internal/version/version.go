// Package version says which build this is.
//
// [Version] is set by the linker (see the Makefile); a build without it, as by
// go install, is told apart by what the toolchain recorded. [Get] is the whole
// answer, [String] the short one.
package version

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// Version is set with -ldflags "-X nexd/internal/version.Version=v1.2.3"; use
// [Get] or [String] to read it.
var Version string

// Commit is set likewise; empty: what the toolchain recorded.
var Commit string

// Info is the build.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

// Get returns the build; unknown parts read "devel" and "unknown".
var Get = sync.OnceValue(func() Info {
	build, _ := debug.ReadBuildInfo()
	return resolve(Version, Commit, build)
})

// String returns the version alone.
func String() string { return Get().Version }

// resolve fills what the linker left open from what the toolchain recorded,
// which is nil in a binary built without modules.
func resolve(version, commit string, build *debug.BuildInfo) Info {
	info := Info{Version: version, Commit: commit, Go: runtime.Version()}
	if build != nil {
		if info.Version == "" && build.Main.Version != "(devel)" {
			info.Version = build.Main.Version
		}
		modified := false
		for _, s := range build.Settings {
			switch {
			case s.Key == "vcs.revision" && info.Commit == "":
				info.Commit = s.Value
			case s.Key == "vcs.modified" && commit == "":
				modified = s.Value == "true"
			}
		}
		if modified && info.Commit != "" {
			info.Commit += "-dirty"
		}
	}
	if info.Version == "" {
		info.Version = "devel"
	}
	if info.Commit == "" {
		info.Commit = "unknown"
	}
	return info
}
