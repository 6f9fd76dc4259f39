//go:build !linux

package duplex

import (
	"context"
	"net"
)

type moverSys struct{}

func (m *Mover) pump(context.Context, net.Conn, net.Conn, Options, func(Result)) bool { return false }

func (m *Mover) end() {}

type acceptorSys struct{}

func (a *acceptor) hostStep() (func() bool, bool) { return nil, false }
