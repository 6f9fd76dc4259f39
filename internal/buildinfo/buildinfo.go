// Package buildinfo says which build of the program is running. It reads what
// the linker was told (-X nexd/internal/buildinfo.version=v1.2.3) and, where it
// was told nothing, what the Go toolchain recorded of the repository.
package buildinfo

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// Set by the linker; empty in a plain "go build".
var (
	version string
	commit  string
)

// Info describes one build.
type Info struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Get returns the description of this build. No field is empty.
var Get = sync.OnceValue(func() Info {
	recorded, _ := debug.ReadBuildInfo()
	return describe(version, commit, recorded)
})

// Version returns the version alone.
func Version() string { return Get().Version }

// describe prefers what the linker was told over what the toolchain recorded.
func describe(version, commit string, recorded *debug.BuildInfo) Info {
	info := Info{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if recorded != nil {
		if info.Commit == "" {
			info.Commit = recordedCommit(recorded.Settings)
		}
		if v := recorded.Main.Version; info.Version == "" && v != "(devel)" {
			info.Version = v
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

// recordedCommit returns the revision, marked when files were changed after it.
func recordedCommit(settings []debug.BuildSetting) string {
	var revision, dirty string
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}
