// Package netstack is a TCP/IP stack inside the process, standing behind the
// network device that WireGuard reads and writes.
//
// It is what lets a process without any privilege have an address of its own
// on the mesh: packets that WireGuard has decrypted are injected into gVisor's
// TCP/IP, and the packets gVisor makes are handed to WireGuard to be sealed.
//
// In reading order:
//
//   - [Config], [Stack]: the stack, its addresses, its life.
//   - device (device.go): wireguard-go's tun.Device, read and written in batches.
//   - link (link.go): gVisor's side of the same device, with the bounded queue
//     between them (queue.go).
//   - [Conn], the listener and [Stack.DialTCP]: streams with half-close and reset (reset.go).
//   - [PacketConn]: datagrams, with bounded buffers.
//   - [Stack.Ping]: echo requests.
//   - [Stack.Flush]: the last words of an orderly end.
//   - errors.go: gVisor's errors become those of the operating system, so that
//     callers can write errors.Is(err, syscall.ECONNREFUSED).
//
// What it answers. Nothing at all before [Stack.SetAddresses]. Afterwards only
// packets to one of these addresses: TCP and UDP where somebody listens, a reset
// or "port unreachable" elsewhere, and echo requests. Nothing is forwarded, no
// group is joined, no router is believed, and a packet that claims to come from
// one of the stack's own addresses is dropped. That the other sources are honest
// is WireGuard's promise (allowed IPs); the stack relies on it.
//
// Checksums of received TCP and UDP packets are not verified: every byte has
// passed WireGuard's authenticated encryption, which no checksum can add to.
// (Kernel WireGuard marks its packets CHECKSUM_UNNECESSARY for the same reason.)
// Packets to be sent carry full checksums, as the other end may be any WireGuard.
//
// MTU. One for the whole stack now. gVisor's routes carry an MTU of their own, so
// that one per peer can follow without a change of this package's shape.
//
// What it is not: it knows no peers, no keys and no policy, and opens no socket
// of the host. It is the only package that knows gVisor.
package netstack
