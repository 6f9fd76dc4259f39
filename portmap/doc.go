// Package portmap asks the gateway for a port of its own on the internet, so
// that peers reach this device though its NAT hides it: by PCP (RFC 6887),
// NAT-PMP (RFC 6886), or UPnP-IGD (WANIPConnection and WANPPPConnection).
//
// [Mapper] is all there is: New, Run, Wake, Status. One UDP port is mapped; the
// address outside is told to [Config.OnChange] as long as the mapping lives.
// The package knows nothing of peers and moves no packets.
package portmap
