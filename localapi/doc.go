// Package localapi is the daemon's unix socket: HTTP with JSON bodies, for the
// user who runs the daemon and nobody else (mode 0600). It knows the shape of
// questions and answers; what they mean is the [Daemon]'s matter.
//
// Reading order:
//
//   - [Status], [Trace], [Netcheck] and [Doctor] are the documents; whole.go bounds them.
//   - [Daemon] is what a running node offers.
//   - [Server] serves a Daemon; socket.go claims the socket's path.
//   - [Client] asks; its errors say whether a daemon was there at all.
//
// Requests:
//
//	GET  /v1/status                      -> Status
//	GET  /v1/wait?for=COND&timeout=30s   -> Status, or 504 when time is up
//	GET  /v1/rules                       -> RuleList
//	POST /v1/rules      RuleChange       -> RuleList
//	POST /v1/ping       PingRequest      -> PingResult
//	GET  /v1/trace?peer=PEER             -> Trace
//	GET  /v1/netcheck                    -> Netcheck, after some seconds
//	GET  /v1/doctor                      -> Doctor
//	GET  /v1/log-level                   -> LogLevel
//	PUT  /v1/log-level  LogLevel         -> LogLevel
//	GET  /v1/version                     -> buildinfo.Info
//
// COND is "ready" or "direct:PEER". A refusal has a status of 400 or above and
// a [Problem] as its body; 400 says that the request was wrong and nothing was
// changed.
package localapi
