//go:build linux

// Package netns gives tests network namespaces and programs that run in them.
//
//   - [NewSet] makes the namespaces of one test under a prefix of their own;
//     [Set.Host] adds one. The test's end removes them with all that runs in
//     them. What a killed run left behind is swept by the next one, which knows
//     by a file lock that the owner is gone.
//   - [Host] is a namespace: [Host.Command] and [Host.CommandAs] prepare
//     programs, [Host.Run] runs one, [Host.Start] keeps one running as a
//     [Proc]; [Host.IP], [Host.Carrier], [Host.NFT] and [Host.Sysctl] set it up.
//   - [Inside] runs a function of the test itself in a namespace, to open
//     sockets there.
//
// It knows nothing of what is tested: test/cluster and test/lab build on it. It
// needs root and ip(8); where they are missing, test/need says what becomes of
// the test.
package netns
