package memlimit

import (
	"runtime/debug"
	"testing"
	"testing/fstest"
)

const mib = 1 << 20

// files is a root directory with some text files.
func files(pairs ...string) fstest.MapFS {
	fs := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fs[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fs
}

func TestGroup(t *testing.T) {
	const self = "proc/self/cgroup"
	for name, c := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"no control groups":   {files(), unlimited},
		"a container":         {files(self, "0::/\n", "sys/fs/cgroup/memory.max", "134217728\n"), 128 * mib},
		"without a limit":     {files(self, "0::/\n", "sys/fs/cgroup/memory.max", "max\n"), unlimited},
		"the root of a host":  {files(self, "0::/\n"), unlimited},
		"throttled before":    {files(self, "0::/\n", "sys/fs/cgroup/memory.max", "max\n", "sys/fs/cgroup/memory.high", "67108864\n"), 64 * mib},
		"a service":           {files(self, "0::/system.slice/nexd.service\n", "sys/fs/cgroup/system.slice/nexd.service/memory.max", "268435456\n"), 256 * mib},
		"a slice's is less":   {files(self, "0::/a/b\n", "sys/fs/cgroup/a/memory.max", "1048576\n", "sys/fs/cgroup/a/b/memory.max", "2097152\n"), mib},
		"the path is outside": {files(self, "0::/../../pod1\n", "sys/fs/cgroup/memory.max", "1048576\n"), mib},
		"not of the host's":   {files(self, "0::/docker/0123\n", "sys/fs/cgroup/memory.max", "1048576\n"), mib},
		"version 1": {files(self, "11:cpu,cpuacct:/x\n4:memory:/docker/01\n0::/\n",
			"sys/fs/cgroup/memory/docker/01/memory.limit_in_bytes", "33554432\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), 32 * mib},
		"version 1, none":    {files(self, "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), unlimited},
		"a path with colons": {files(self, "0::/a:b\n", "sys/fs/cgroup/a:b/memory.max", "1048576"), mib},
		"nonsense":           {files(self, "what\n0::\n::::\n", "sys/fs/cgroup/memory.max", "-1\n"), unlimited},
		"no number":          {files(self, "0::/\n", "sys/fs/cgroup/memory.max", "1e9\n"), unlimited},
		"zero":               {files(self, "0::/\n", "sys/fs/cgroup/memory.max", "0\n"), unlimited},
		"too large a number": {files(self, "0::/\n", "sys/fs/cgroup/memory.max", "99999999999999999999\n"), unlimited},
	} {
		t.Run(name, func(t *testing.T) {
			if got := group(c.root); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestShare(t *testing.T) {
	for limit, want := range map[int64]int64{
		unlimited:    0,
		0:            0,
		16 * mib:     64 * mib, // less has no use
		64 * mib:     64 * mib,
		128 * mib:    112 * mib,
		1000 * mib:   900 * mib,
		10_000 * mib: 9_000 * mib,
	} {
		if got := share(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
}

func TestApply(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	if got := Apply(func(name string) string { return map[string]string{"GOMEMLIMIT": "1GiB"}[name] }); got != 0 {
		t.Errorf("the environment's does not count: %d", got)
	}
	if now := debug.SetMemoryLimit(-1); now != before {
		t.Errorf("limit %d, was %d", now, before)
	}
	got := Apply(func(string) string { return "" })
	now := debug.SetMemoryLimit(-1)
	switch {
	case got == 0 && now != before:
		t.Errorf("limit %d, was %d", now, before)
	case got != 0 && now != got:
		t.Errorf("limit %d, want %d", now, got)
	}
}

func FuzzGroup(f *testing.F) {
	f.Add("0::/a/b\n", "1048576\n")
	f.Add("4:memory:/../x\n", "max")
	f.Add("0:::\n\x00", "-5")
	f.Fuzz(func(t *testing.T, self, limit string) {
		root := files("proc/self/cgroup", self, "sys/fs/cgroup/memory.max", limit, "sys/fs/cgroup/memory/memory.limit_in_bytes", limit)
		if got := share(group(root)); got != 0 && got < least {
			t.Errorf("limit %d", got)
		}
	})
}
