package relay

import (
	"hash/maphash"
	"net/netip"
	"sync"

	"nexd/key"
)

// table holds all sessions. Devices are looked up within their network alone:
// there is no way from one network to another.
type table struct {
	// mu guards the fields below, and those of networks.
	mu       sync.RWMutex
	networks map[NetworkID]*network
	total    int
	udp      int

	seed   maphash.Seed
	shards [64]addrShard
}

// network is the part of the table one network has.
type network struct {
	id       NetworkID
	rate     bucket
	sessions map[key.Public]*session
	// wanted lists who lately sent to a device that was not here.
	wanted map[key.Public][]asker
	// epochs of sessions that ended a moment ago: their auth frames do not count again.
	epochs map[key.Public]pastEpoch
}

type asker struct {
	session *session
	until   int64
}

type pastEpoch struct {
	epoch uint64
	until int64
}

// Bounds of what is remembered of absent devices, per network.
const (
	maxWanted = 1024           // devices
	maxAskers = 16             // of each
	askFor    = 60_000_000_000 // nanoseconds
)

// addrShard is a part of the index by source address.
type addrShard struct {
	mu     sync.RWMutex
	byAddr map[netip.AddrPort]*session
}

func newTable() *table {
	t := &table{networks: map[NetworkID]*network{}, seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].byAddr = map[netip.AddrPort]*session{}
	}
	return t
}

func (t *table) shard(a netip.AddrPort) *addrShard {
	return &t.shards[maphash.Comparable(t.seed, a)%uint64(len(t.shards))]
}

// at returns the session whose client proved to be at a.
func (t *table) at(a netip.AddrPort) *session {
	sh := t.shard(a)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.byAddr[a]
}

// settle makes s the session at a and returns the one that was, if another.
func (t *table) settle(a netip.AddrPort, s *session) *session {
	sh := t.shard(a)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before := sh.byAddr[a]
	sh.byAddr[a] = s
	if before == s {
		return nil
	}
	return before
}

// vacate forgets that s is at a.
func (t *table) vacate(a netip.AddrPort, s *session) {
	sh := t.shard(a)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.byAddr[a] == s {
		delete(sh.byAddr, a)
	}
}

// find returns the session of a device in a network, or nil.
func (t *table) find(n *network, device key.Public) *session {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.sessions[device]
}

// session returns that of a device in the network of that id, or nil.
func (t *table) session(id NetworkID, device key.Public) *session {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n := t.networks[id]; n != nil {
		return n.sessions[device]
	}
	return nil
}

// all returns every session.
func (t *table) all() []*session {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]*session, 0, t.total)
	for _, n := range t.networks {
		for _, s := range n.sessions {
			out = append(out, s)
		}
	}
	return out
}

func (t *table) size() (udp, tls, networks int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.udp, t.total - t.udp, len(t.networks)
}

// networkLocked returns the network, made when it is new. t.mu is held.
func (t *table) networkLocked(id NetworkID) *network {
	n := t.networks[id]
	if n == nil {
		n = &network{
			id: id, sessions: map[key.Public]*session{},
			wanted: map[key.Public][]asker{}, epochs: map[key.Public]pastEpoch{},
		}
		t.networks[id] = n
	}
	return n
}

// addLocked puts a session in. t.mu is held.
func (t *table) addLocked(s *session) {
	s.network.sessions[s.device] = s
	t.total++
	if l := s.link.Load(); l.tls == nil {
		t.udp++
	}
}

// removeLocked takes a session out and marks it ended; false: it was out. t.mu is held.
func (t *table) removeLocked(s *session, now int64) bool {
	if s.ended.Swap(true) {
		return false
	}
	n := s.network
	if n.sessions[s.device] == s {
		delete(n.sessions, s.device)
	}
	n.epochs[s.device] = pastEpoch{s.epoch, now + int64(2*cookieLife)}
	t.total--
	if l := s.link.Load(); l.tls == nil {
		t.udp--
		t.vacate(l.addr, s)
	}
	return true
}

// ask remembers that s wants to know when a device comes.
func (t *table) ask(s *session, device key.Public, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := s.network
	list, known := n.wanted[device]
	if !known && len(n.wanted) >= maxWanted || s.ended.Load() {
		return
	}
	kept := list[:0]
	for _, a := range list {
		if a.until > now && a.session != s && !a.session.ended.Load() {
			kept = append(kept, a)
		}
	}
	if len(kept) < maxAskers {
		kept = append(kept, asker{s, now + askFor})
	}
	n.wanted[device] = kept
}

// askersLocked takes the list of those who wait for a device. t.mu is held.
func (n *network) askersLocked(device key.Public, now int64) (out []*session) {
	for _, a := range n.wanted[device] {
		if a.until > now && !a.session.ended.Load() {
			out = append(out, a.session)
		}
	}
	delete(n.wanted, device)
	return out
}

// tidy forgets what is over.
func (t *table) tidy(now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range t.networks {
		for device, list := range n.wanted {
			if len(list) == 0 || list[len(list)-1].until <= now {
				delete(n.wanted, device)
			}
		}
		for device, past := range n.epochs {
			if past.until <= now {
				delete(n.epochs, device)
			}
		}
		if len(n.sessions) == 0 && len(n.epochs) == 0 {
			delete(t.networks, id)
		}
	}
}
