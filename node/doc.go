// Package node assembles a member of the mesh from the parts below it and runs
// it: state, control client, bind, tunnel, discovery, netstack, proxy and the
// daemon's socket. It is the only place where those parts meet.
//
// Reading order:
//
//   - [Config] is everything a node can be told.
//   - [Node] is the running node; [Node.Run] reads as the list of what runs and
//     in which order it starts and ends.
//   - plane.go joins the data plane's parts.
//   - member.go keeps membership: joining, the watch stream, the cached map.
//   - rulebook.go keeps the declared and the run-time rules.
//   - daemon.go and status.go answer the daemon's socket; ops.go the operator's port.
package node
