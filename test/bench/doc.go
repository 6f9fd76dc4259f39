// Command bench measures the data path of two `nexd proxy` and what it is to be
// compared with, side by side in one run: only ratios of one run mean anything
// on a shared machine.
//
//	bench [flags]                 measure; make bench
//	bench compare OLD NEW         what changed between two -json files
//	bench soak [-for 1h]          mixed load for long; fails when memory grows; make soak
//	bench flame FILE.svg          a flame graph of both proxies, by perf(1); make bench-flame
//
// Each system is started once and reused: a round runs every test on every
// system, in an order that turns from round to round. A system that fails a
// test is reported so, and the run goes on.
//
//   - place.go, proc.go: network namespaces and processes, and what these cost
//   - agent*.go, wire.go: the load; two processes of this program per system,
//     a client and a server, steered over their standard input and output
//   - system.go, child.go, peers.go, nexd.go: the systems
//   - tests.go, rest.go, members.go: what is measured
//   - runner.go, result.go, report.go, compare.go: in which order, and what came of it
//   - soak.go: whether what the proxies hold grows
//   - flame.go, flamesvg.go: samples of perf, as a picture
//
// Each system has a namespace of its own with a loopback, the one with a kernel
// TUN two and a veth pair; those with losses two and a cable in a process of
// this program. Without root only the first kind runs, on the host's loopback.
package main
