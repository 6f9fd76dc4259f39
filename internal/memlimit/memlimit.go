package memlimit

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// least is the smallest limit that is set. WireGuard's buffers count with
	// their whole 64 KiB, some 40 MiB at rest, though most of it is never touched
	// and costs nothing: a limit near that would only have the collector run
	// without end.
	least = 64 << 20

	// Of a small limit a quarter is left to the kernel and the program's text, of a
	// large one a tenth and at least leave.
	leave = 16 << 20

	unlimited = math.MaxInt64
)

// Apply sets Go's memory limit from that of the control group and returns it
// in bytes. It returns 0, and changes nothing, when the environment sets
// GOMEMLIMIT, when there is no limit, or when the system does not say.
func Apply(getenv func(string) string) int64 {
	if getenv("GOMEMLIMIT") != "" {
		return 0 // the runtime has read it
	}
	limit := share(group(os.DirFS("/")))
	if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	return limit
}

// share is how much of a control group's limit the Go runtime may use; 0: any.
func share(limit int64) int64 {
	if limit <= 0 || limit == unlimited {
		return 0
	}
	return max(least, limit-max(limit/10, min(leave, limit/4)))
}

// group returns the smallest memory limit of this process's control group and
// those above it, in bytes; unlimited when there is none.
func group(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return unlimited
	}
	limit := int64(unlimited)
	for line := range strings.Lines(string(text)) {
		// number:controllers:path, see cgroups(7)
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			limit = min(limit, above(root, "sys/fs/cgroup", parts[2], "memory.max", "memory.high"))
		case has(parts[1], "memory"):
			limit = min(limit, above(root, "sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes"))
		}
	}
	return limit
}

// above reads files of a control group and all above it. In a container the
// group's own path may lie outside of what is mounted; then the mount's root is it.
func above(root fs.FS, mount, group string, files ...string) int64 {
	limit := int64(unlimited)
	for at := path.Clean("/" + group); ; at = path.Dir(at) {
		for _, name := range files {
			limit = min(limit, read(root, path.Join(mount, at, name)))
		}
		if at == "/" {
			return limit
		}
	}
}

// read returns the number in a file; unlimited for "max", none, and what
// version 1 has for none: nearly all that a signed number can hold.
func read(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return unlimited
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 || n >= 1<<62 {
		return unlimited
	}
	return n
}

// has reports whether a list separated by commas holds a word.
func has(list, word string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one == word {
			return true
		}
	}
	return false
}
