// Package tunnel runs wireguard-go's device: packets of the mesh go in at a
// tun.Device, encrypted datagrams come out at a conn.Bind.
//
// The members of the mesh are a table ([Tunnel.SetPeers]). WireGuard itself is
// told of a member only when it is used, because a configured peer costs two
// queues, two goroutines and timers while a row of the table costs half a
// kilobyte:
//
//	          first packet to it, or Activate
//	member ───────────────────────────────────▶ active: WireGuard has it
//	       ◀───────────────────────────────────
//	          no data for IdleTimeout, or gone from the table
//
// A member with a static endpoint is a plain WireGuard peer: always active,
// and it roams as WireGuard does. All others are configured with the endpoint
// "peer:<key in hexadecimal>", which the Bind understands, and never roam: the
// Bind chooses their path.
//
// The package finds no paths, knows no names and judges no traffic.
//
// Who runs what: wireguard-go's own goroutines read and write packets through
// the gate (gate.go); one goroutine of ours, the owner (owner.go), is the only
// one that changes WireGuard's configuration. The goroutine that reads the
// tun.Device may not do it: device.Close waits for that goroutine while it
// holds the lock every change needs.
//
// Reading order: [Config], [Peer], [Tunnel], gate.go, owner.go, table.go.
package tunnel
