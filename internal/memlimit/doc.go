// Package memlimit keeps the process's memory within bounds that Go's runtime
// does not see by itself.
//
// [Apply] has the garbage collector respect the memory limit of the control
// group the process runs in: a container's. The kernel ends a process that goes
// beyond it; Go lets the heap double between collections. [Run] gives back to
// the system what a peak has left behind: Go keeps pages up to that doubled
// size, and in this process most of what counts there is never touched
// (WireGuard's buffers of 64 KiB), so that much garbage would stay for good.
//
// What it is not: a guarantee. The limit is soft (runtime/debug.SetMemoryLimit),
// and does not hold what the kernel keeps for the process, above all the
// buffers of its sockets. For these a share is left free.
package memlimit
