// Package store keeps what the control service must not lose: networks, their
// devices and addresses, registration keys, and the service's own settings.
// SQL is written here and nowhere else.
//
//   - [Store] is what the service asks of a database. What is of devices is
//     scoped by a network; the two exceptions, [Store.NetworkOfRegKey] and
//     [Store.Authenticate], are how a secret leads to its network. Relays and
//     [Denial] are the service's: a relay serves every network.
//   - [Device], [RegKey], [Network], [Relay] are the records, [Changes] what happened
//     since a revision.
//   - [Join] and [JoinResult] are the one transaction that makes a member,
//     [RelayJoin] that which makes a relay.
//   - [OpenSQLite] opens the embedded database.
//   - storetest.Run is the contract every implementation passes.
//
// Each network has one counter, its revision. Every change that members can see
// raises it by one in the transaction that makes the change, and marks the
// changed record (or the tombstone of a deleted one) with the new value: what
// happened since revision N is what carries a mark above N.
//
// Secrets (registration keys, credentials) are known by their SHA-256 only;
// they are 256 random bits, so a plain hash cannot be searched.
//
// A record that cannot be read back (edited by hand, damaged) is logged and
// left out; it never keeps the others from being served.
package store
