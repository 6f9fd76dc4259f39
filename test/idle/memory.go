package idle

import "runtime"

// Memory returns the bytes the process has in use: its heap without garbage,
// and its stacks.
func Memory() uint64 {
	for range 3 { // what pools held goes with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
