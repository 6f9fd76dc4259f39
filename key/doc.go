// Package key holds the keys a device is known by.
//
// A device is its WireGuard key: an X25519 key pair made on the device. The
// private half never leaves it and never prints itself; the public half is the
// device's name towards every other part of the program.
//
//   - [Private] is the secret half. It derives secrets shared with a peer.
//   - [Public] is the identity: comparable, usable as a map key.
//
// The package knows no files, no network and no protocol.
package key
