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
//     between them (queue.go), which is fair among flows (flows.go).
//   - acks.go: bare acknowledgements wait a moment for data to travel with.
//   - [Stack.SetPathMTU] (mtu.go): how large packets may be, by destination.
//   - [Conn], the listener and [Stack.DialTCP]: streams with half-close and reset (reset.go).
//   - ports.go: gVisor hears of a listener with the first SYN to it.
//   - window.go, beside.go: to whom the receive window grows, and how small it is beside others.
//   - moving.go: how a proxy moves streams without waiting in them, and without a
//     buffer between ([Conn.Notify], [Conn.ReadPieces], [Conn.WriteFrom]).
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
// Large inside, small outside. gVisor works by the packet, whatever its size, so
// it sends and receives large ones:
//
//	write ─► gVisor: up to 58,960 bytes in one segment ─► queue ─► device.Read cuts it (cut.go) ─► WireGuard
//	read  ◄─ gVisor ◄─ one packet per run of segments ◄─ device.Write joins them (join.go) ◄────── WireGuard
//
// A Read returns up to 128 packets that leave in one write of the UDP socket, and
// a large segment is one such batch. Payload is copied and summed in one pass
// (checksum.go). Data never waits for more to come: a batch is what is there.
//
// Checksums of received TCP and UDP packets are not verified: every byte has
// passed WireGuard's authenticated encryption, which no checksum can add to (but to
// what is put together from fragments, whose checksums are verified).
// (Kernel WireGuard marks its packets CHECKSUM_UNNECESSARY for the same reason.)
// Packets to be sent carry full checksums, as the other end may be any WireGuard.
//
// MTU. gVisor knows none: TCP is cut, and all else is fragmented (fragment.go), to
// what holds for the destination when the packet is read. The MSS of SYNs is
// lowered to it on the way out and on the way in.
//
// What it is not: it knows no peers, no keys and no policy, and opens no socket
// of the host. It is the only package that knows gVisor.
package netstack
