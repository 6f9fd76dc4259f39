package portmap

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// announcements hears what the gateway of a link tells all hosts.
type announcements struct {
	conn *net.UDPConn
	done sync.WaitGroup
}

// listenAll opens the socket for announcements; others may have it open, too.
func listenAll(l link) (*net.UDPConn, error) {
	i, err := net.InterfaceByName(l.device)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", l.device, err)
	}
	return net.ListenMulticastUDP("udp4", i, &net.UDPAddr{IP: net.IPv4allsys, Port: announcePort})
}

// hear calls told for each announcement of the gateway until stop. told must not block.
func hear(conn *net.UDPConn, gateway netip.AddrPort, told func(news)) *announcements {
	a := &announcements{conn: conn}
	a.done.Go(func() {
		b := make([]byte, maxPacket)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return // closed, or its interface is gone
			}
			if netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != gateway {
				continue
			}
			if said, ok := parseNews(b[:n]); ok {
				told(said)
			}
		}
	})
	return a
}

func (a *announcements) stop() {
	if a != nil {
		a.conn.Close()
		a.done.Wait()
	}
}
