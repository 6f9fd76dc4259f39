package version

import (
	"runtime/debug"
	"testing"
)

func TestResolve(t *testing.T) {
	recorded := &debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"},
	}}
	for _, tc := range []struct {
		name            string
		version, commit string
		build           *debug.BuildInfo
		want            string
	}{
		{"linker wins", "v2", "def", recorded, "v2 def"},
		{"toolchain", "", "", recorded, "v1.0.0 abc-dirty"},
		{"neither", "", "", nil, "devel unknown"},
		{"plain build", "", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := resolve(tc.version, tc.commit, tc.build)
			if s := got.Version + " " + got.Commit; s != tc.want {
				t.Errorf("got %q, want %q", s, tc.want)
			}
			if got.Go == "" {
				t.Error("no Go version")
			}
		})
	}
	if String() == "" || Get().Commit == "" {
		t.Error("empty version or commit")
	}
}
