//go:build linux

// Package paths sees how the real binaries reach each other through NATs of
// every kind, and what happens to the connections through them when networks
// change.
//
//   - [World] is a lab with the control service on a public host, [Member] a
//     proxy in it; World.Change does one thing to the network at a time.
//   - [Serve] answers at a member's host, [Say] asks once, and [Beat] is a
//     connection that says something every 20 ms and knows how long it was not
//     answered.
//   - [Trace] notes a member's paths to a peer and the WireGuard handshakes that
//     nothing but a change of path explains.
//
// The tests assert outcomes and no times. The program pathbench, below this
// package, measures times with the same parts.
package paths
