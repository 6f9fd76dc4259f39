package discovery

import (
	"context"
	"net/netip"

	"nexd/key"
)

// Agent is the discovery of one node.
type Agent struct{ inbox }
type inbox struct{}

// New returns an agent that does nothing until Run.
func New(c Config) *Agent { return &Agent{} }

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (a *Agent) HandleSTUN(pkt []byte, from netip.AddrPort) {}
func (a *Agent) HandleSignal(from key.Public, sealed []byte) {}
func (a *Agent) Want(peer key.Public)                        {}
func (a *Agent) SetPeers(peers []key.Public)                 {}
func (a *Agent) SetSTUN(servers []string)                    {}
func (a *Agent) Peer(peer key.Public) PeerPath               { return PeerPath{} }
func (a *Agent) NAT() NATInfo                                { return NATInfo{} }
