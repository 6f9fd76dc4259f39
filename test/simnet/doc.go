// Package simnet is a small internet in memory: hosts behind NATs, delay, loss
// and time-outs, for tests that run hours of protocol in milliseconds.
//
// It uses the time package alone, so it belongs inside a testing/synctest
// bubble. It knows UDP datagrams and nothing else.
//
//   - [Net] is the internet between the sites.
//   - [Site] is one place: a network behind a NAT, or public.
//   - [Host] is a machine of a site with one socket.
//   - [Socket] is a further one.
//
// A packet goes host → site's NAT → the internet → site's NAT → host; between
// hosts of one site it stays inside. There is no hairpin.
package simnet
