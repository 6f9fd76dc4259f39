// Package netwatch tells when the machine's network may have changed: an
// address, a link or a route is another one, or the machine slept. It does not
// say what the network is now: who is told looks for himself.
//
// [Watcher] is all there is: New, Run. On Linux it listens to the kernel
// (rtnetlink, which needs no privilege); elsewhere, and where that socket
// cannot be had, it compares the addresses of the interfaces every two seconds.
//
// What it reads there, and what it leaves out:
//
//	message   counts                                  is noise
//	link      up and with a carrier, or no longer     loopback; ports of a bridge; wireless scans, counters
//	address   new, gone, usable, deprecated           link-local and loopback; lifetimes; still being probed (DAD)
//	route     new, gone, another next hop             other tables than main, the cache; the same again
//
// Changes are gathered until nothing has happened for 50 ms, 500 ms at most,
// and reported once, with the weightiest reason.
package netwatch
