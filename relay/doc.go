// Package relay carries sealed packets between devices of one network that
// cannot reach each other, and understands nothing in them. It holds both
// sides: the relay and its client, over UDP and over WebSocket.
//
// It is not a path selector: a [Pool] keeps sessions with relays and says how
// they are, and whoever has packets says through which. It does not encrypt: packets are WireGuard's. It
// knows no control service: credentials are bytes it is given, and relays
// know only the public key they are signed with.
//
// In reading order:
//
//   - wire.go, wire_admission.go, wire_session.go, wire_stream.go: the frames;
//     docs/relay.md has their tables and test vectors. wire_websocket.go and
//     wsconn.go: WebSocket's, after a handshake by the library.
//   - [Credential]: what the service signs. cookie.go, proof.go: what a client proves.
//   - [Server]: admit.go (who gets a session), session.go and table.go (what a
//     relay knows), forward.go (what it does with a frame), outbox.go and
//     socket_linux.go (how it leaves), websocket.go and fairqueue.go.
//   - [Client], one relay: machine.go (a session without I/O), client_run.go
//     (which transport, when), client_udp.go and client_tls.go (what comes of
//     it), client_send.go and client_receive.go (the packets).
//   - [Pool], the relays of a node: pool_choice.go (home and standby, without
//     I/O), pool_probe.go and pool_measure.go (how far relays are), pool_run.go
//     and pool_session.go (sessions as wanted), pool_member.go (the packets).
//
// # A packet's way through a relay
//
//	recvmmsg ─▶ datagram ─▶ session at its source ─▶ tag ─▶ channel ─▶ limits ─▶ route
//	                             │ none: challenge      │ wrong: drop     │ none: notice
//	                             ▼                      ▼                 ▼
//	          header rewritten in place ─▶ outbox ─▶ sendmmsg      (UDP receiver)
//	                                    └▶ fair queue ─▶ writer    (WebSocket receiver)
//
// # Who is believed
//
// Nothing is kept for an address that has not sent a cookie back, nothing is
// admitted without a credential and the proof of its device's key, nothing is
// forwarded to another network, and a session's frames count only from where
// its client proved to be, with the tag only the two ends know. Every queue is
// bounded; what is dropped is counted by reason in [Stats].
package relay
