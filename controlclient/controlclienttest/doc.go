// Package controlclienttest has a small control service for tests of what
// stands above the client: it speaks HTTPS on loopback, checks proofs, gives
// addresses, sends deltas, resumes streams and passes signals on. It is not a
// reference: it keeps no rule of the service that a client cannot notice, and
// holds everything in memory.
//
//   - [NewFake] starts a [Fake]; [Fake.Stop] and [Fake.Start] are its outages.
//   - [Fake.Put] and [Fake.Remove] change the membership; [Fake.Send] and
//     [Fake.SendRaw] say anything at all to the open streams.
//   - [Fake.Intercept] takes over requests, to answer badly.
package controlclienttest
