package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"nexd/controlapi"
	"nexd/discovery"
	"nexd/internal/logkey"
	"nexd/localapi"
	"nexd/relay"
)

// publishPause lies between tellings of where this device is found, and between
// tries: homes that change in a row are told once.
const (
	publishPause = time.Second
	publishAgain = 10 * time.Second
)

// relayBook turns the service's list of relays into what the pool wants. The
// zero value is empty; applyMap's goroutine owns it.
type relayBook struct {
	tls map[relayTrust]*tls.Config // one pointer for one way to trust
}

type relayTrust struct {
	url string
	pin controlapi.Pin
}

// infos is the list for the pool.
func (b *relayBook) infos(n *Node, list []controlapi.Relay) []relay.Info {
	kept := make(map[relayTrust]*tls.Config, len(list))
	out := make([]relay.Info, 0, len(list))
	for _, r := range list {
		info := relay.Info{ID: r.ID, Name: r.Name, Key: r.PublicKey, UDP: n.nearService(r.UDP), URL: r.URL}
		if info.Name == "" {
			info.Name = r.ID
		}
		if r.URL != "" {
			trust := relayTrust{r.URL, r.Pin}
			config := b.tls[trust]
			if config == nil {
				config = n.client.RelayTLS(r)
			}
			kept[trust] = config
			info.TLS = config
			if strings.HasPrefix(r.URL, "/") {
				info.URL = n.client.URL() + r.URL
			}
		}
		out = append(out, info)
	}
	b.tls = kept
	return out
}

// nearService fills in the host of addresses without one: the host by which
// this node knows the service.
func (n *Node) nearService(addrs []string) []string {
	var out []string
	for _, a := range addrs {
		if port, ok := strings.CutPrefix(a, ":"); ok {
			u, err := url.Parse(n.client.URL())
			if err != nil {
				continue
			}
			a = net.JoinHostPort(u.Hostname(), port)
		}
		out = append(out, a)
	}
	return out
}

// relayCredential is what admits this device to relays now; nil: nothing.
func (n *Node) relayCredential() []byte {
	if m := n.roster.current(); m != nil {
		return m.Relays.Credential
	}
	return nil
}

// relaysChanged hands what the pool says of its relays to discovery, and has
// bind send again what a relay may have lost while it was out of reach. The
// pool calls it whenever something changes.
func (p *plane) relaysChanged() {
	p.freshMu.Lock()
	var fresh []uint16
	var list, others []discovery.Relay
	for _, s := range p.relays.Status() {
		r := discovery.Relay{
			Number: s.Number, Name: s.Name, Key: s.Key,
			Up: s.Connected, Shaky: s.Suspect || s.Draining, TLS: s.Transport == relay.TLS, Own: s.Home || s.Standby,
		}
		if s.Connected && s.Fresh.After(p.fresh[s.Number]) {
			p.fresh[s.Number] = s.Fresh
			fresh = append(fresh, s.Number)
		}
		if s.Home {
			list = append(list, r)
		} else {
			others = append(others, r)
		}
	}
	p.agent.SetRelays(append(list, others...)) // queues; in the order of the news
	p.freshMu.Unlock()
	for _, number := range fresh {
		p.bind.Recall(number)
	}
}

// relayNumbers finds the pool's numbers of relays by their ids.
func (p *plane) relayNumbers() map[string]uint16 {
	out := make(map[string]uint16)
	for _, s := range p.relays.Status() {
		out[s.ID] = s.Number
	}
	return out
}

// publishHomes keeps the service told where peers find this device, until ctx ends.
func (n *Node) publishHomes(ctx context.Context) error {
	for {
		pause := publishPause
		changed := n.changed.wait()
		homes := n.plane.relays.Homes()
		m := n.roster.current()
		n.mu.Lock()
		connected := n.life.connected
		n.mu.Unlock()
		if connected && m.Self.ID != "" && len(homes) > 0 && !slices.Equal(homes, m.Self.Relays) {
			if err := n.client.PublishRelays(ctx, n.token(), homes); err != nil && ctx.Err() == nil {
				n.log.Warn("tell the service where this device is found", logkey.Err, err)
				pause = publishAgain
			}
		} else {
			select {
			case <-ctx.Done():
			case <-changed:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// relayStatus is what people are told of the relays.
func (p *plane) relayStatus() []localapi.RelayStatus {
	out := []localapi.RelayStatus{}
	for _, s := range p.relays.Status() {
		r := localapi.RelayStatus{
			ID: s.ID, Name: s.Name, URL: s.URL, Connected: s.Connected, Since: s.Since, RTTMillis: millis(s.RTT),
			Home: s.Home, Standby: s.Standby, UDP: s.UDP,
		}
		if s.Connected {
			r.Transport = s.Transport.String()
		}
		if s.Err != nil {
			r.Error = relayTrouble(s.Err)
		}
		out = append(out, r)
	}
	return out
}
