// Package memlimit has Go's garbage collector respect the memory limit of the
// control group a process runs in: a container's. The kernel ends a process
// that goes beyond it; Go, which lets the heap double between collections,
// does not look at it by itself.
//
// What it is not: a guarantee. The limit is soft (runtime/debug.SetMemoryLimit),
// and does not hold what the kernel keeps for the process, above all the
// buffers of its sockets. For these a share is left free.
package memlimit
