package buildinfo

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	recorded := &debug.BuildInfo{
		Main: debug.Module{Version: "v0.3.0"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abc"},
			{Key: "vcs.modified", Value: "true"},
		},
	}
	for _, tt := range []struct {
		name, version, commit   string
		recorded                *debug.BuildInfo
		wantVersion, wantCommit string
	}{
		{"linker wins", "v1.0.0", "def", recorded, "v1.0.0", "def"},
		{"recorded", "", "", recorded, "v0.3.0", "abc-dirty"},
		{"nothing known", "", "", nil, "devel", "unknown"},
		{"built in a work tree", "", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel", "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := describe(tt.version, tt.commit, tt.recorded)
			if got.Version != tt.wantVersion || got.Commit != tt.wantCommit {
				t.Errorf("got %q %q, want %q %q", got.Version, got.Commit, tt.wantVersion, tt.wantCommit)
			}
			if got.Go == "" || got.Platform == "" {
				t.Errorf("empty field in %+v", got)
			}
		})
	}
}
