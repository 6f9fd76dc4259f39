package netstack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Keepalive of new connections: a peer that is gone is found out within five
// minutes, and an idle connection costs one small packet in two.
const (
	keepAliveIdle     = 2 * time.Minute
	keepAliveInterval = 30 * time.Second
	keepAliveCount    = 6
)

// SetKeepAlive turns keepalive probes on or off. They are on for new connections.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: on, Idle: -1, Interval: -1, Count: -1})
}

// SetKeepAlivePeriod sets both the idle time before the first probe and the
// time between probes.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d, Interval: d, Count: -1})
}

// SetKeepAliveConfig sets everything about keepalive. As in package net a zero
// field takes the default and a negative one leaves what is set.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	if c.closed.Load() {
		return c.fail("set keepalive", net.ErrClosed)
	}
	if err := c.setKeepAlive(config); err != nil {
		return c.fail("set keepalive", errno(err))
	}
	return nil
}

func (c *Conn) setKeepAlive(config net.KeepAliveConfig) tcpip.Error {
	if config.Idle == 0 {
		config.Idle = keepAliveIdle
	}
	if config.Interval == 0 {
		config.Interval = keepAliveInterval
	}
	if config.Count == 0 {
		config.Count = keepAliveCount
	}
	if config.Idle > 0 {
		idle := tcpip.KeepaliveIdleOption(config.Idle)
		if err := c.endpoint.SetSockOpt(&idle); err != nil {
			return err
		}
	}
	if config.Interval > 0 {
		interval := tcpip.KeepaliveIntervalOption(config.Interval)
		if err := c.endpoint.SetSockOpt(&interval); err != nil {
			return err
		}
	}
	if config.Count > 0 {
		if err := c.endpoint.SetSockOptInt(tcpip.KeepaliveCountOption, config.Count); err != nil {
			return err
		}
	}
	c.endpoint.SocketOptions().SetKeepAlive(config.Enable)
	return nil
}

// SetNoDelay turns Nagle's algorithm off, as it is for new connections, or on.
func (c *Conn) SetNoDelay(noDelay bool) error {
	if c.closed.Load() {
		return c.fail("set no delay", net.ErrClosed)
	}
	c.endpoint.SocketOptions().SetDelayOption(!noDelay)
	return nil
}
