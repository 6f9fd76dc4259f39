// Package controlclient speaks to the control service over HTTPS: it joins,
// follows the watch stream, passes signals and, for an administrator, keeps
// registration keys and devices.
//
// It keeps nothing: no file, no map, no queue. The caller stores the
// credential and the [controlapi.Map], and [Apply] tells it how an event
// changes that map. However long the service is away, memory stays the same.
//
// Reading order:
//
//   - [Config] and [New] make a [Client]: one service, one way to trust it.
//   - [Client.Join] makes the device a member.
//   - [Client.Watch] follows the membership for ever; stream.go reads one
//     connection, watch.go decides when the next one is made.
//   - [Client.Signal], [Client.PublishRelays] and [Client.Leave] are single requests.
//   - [Client.JoinRelay] and [Client.RelayHeartbeat] are a stand-alone relay's.
//   - [Apply] is the pure half of the stream: map and event in, map out.
//   - [Admin] is the other side: what nexctl asks.
//   - retry.go says what is tried again; explain.go turns failures of the
//     network into sentences; [Hint] finds what to do about an error.
//
// Requests and streams use HTTP/1.1, each request its own connection or an
// idle one: a connection that died with a change of network takes down one
// request, not all that would share it under HTTP/2. Redirects are not
// followed, since they would carry credentials to another place.
package controlclient
