// Package control is the control service: the one place that knows who is a
// member of a network. Devices join it, follow changes of the membership over
// a stream, and have it pass sealed messages to each other. What traffic goes
// through it is sealed, by the relay it has built in, and the mesh goes on while
// it is away.
//
// In reading order:
//
//   - [Config] is what `nexd serve` is told.
//   - [Service] owns the listeners and the tasks; [Service.Run] shows what runs.
//   - api.go lists the operations and what each asks for; join.go, watch.go,
//     signal.go and admin.go carry them out.
//   - relay.go runs the service's own relay; relays.go knows all of them and
//     signs what admits devices there, relayapi.go is how they join and report,
//     denied.go whom they must not serve.
//   - hub.go holds the streams: one view of the membership, one bounded queue
//     per stream.
//   - lease.go ends ephemeral devices; tlsfiles.go and adminfile.go keep the
//     files in the state directory.
//
// Everything that must outlive the process is in package control/store; what
// was acknowledged to a client has been written there first. What is in memory
// only (streams, leases, rate limits) starts anew with the process.
//
// Importing this package sets huma's process-wide error constructor, so that
// every refusal is a [nexd/controlapi.Problem].
package control
