// Package relayd assembles the daemons that carry traffic, or help to, and are
// no members of a mesh: the stand-alone relay and the stand-alone STUN server.
// Frames and sessions are package relay's, answers to STUN internal/stunserver's,
// requests to the service controlclient's.
//
//   - [Config] says everything a relay is told; address.go works out what devices
//     are told of it.
//   - [Relay]: [New] opens directory and sockets, [Relay.Run] runs it.
//     membership.go registers it and reports every half minute; station.go is the
//     relay of package relay with its sockets; front.go takes WebSocket clients.
//   - record.go is what it keeps on disk.
//   - [STUN], with [STUNConfig], is the stand-alone STUN server.
//
// # The service is not needed
//
// A relay admits who shows a credential that one of its issuers signed. The
// issuers and its own credential are on disk: a relay that has registered once
// serves from its first moment, whether the service answers or not. One that has
// not, or was deleted from the service, knows no issuers and serves nobody.
package relayd
