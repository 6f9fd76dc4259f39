//go:build linux

// Package cluster runs the real binaries in network namespaces for tests: a
// control service and any number of nodes on one routed link, each in a
// namespace of its own, the nodes without any privilege.
//
//   - [New] builds the namespaces; everything is removed when the test ends.
//     [Over] takes hosts that others built, as those of test/lab.
//   - [Node] is a namespace with addresses; its Command runs a program in it.
//   - [Proc] is a running program: its log, its end.
//   - [Service] is `nexd serve`; [Cluster.Proxy] starts `nexd proxy` as an
//     unprivileged user, [Service.Relay] `nexd relay`.
//   - [Proxy.Look] and [Proxy.Metrics] ask a daemon what it knows.
//
// It needs root, ip(8) and the tools a test names; where they are missing,
// test/need says what becomes of the test.
package cluster
