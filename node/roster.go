package node

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"nexd/controlapi"
	"nexd/key"
)

// roster answers who is in the mesh. Readers see one map at a time; a new map
// replaces the whole index. The zero value is a roster of nobody.
type roster struct {
	index atomic.Pointer[rosterIndex]
}

// rosterIndex is immutable once published.
type rosterIndex struct {
	m      *controlapi.Map
	byName map[string]*controlapi.Device
	byAddr map[netip.Addr]*controlapi.Device
	byKey  map[key.Public]*controlapi.Device
}

// set publishes m, which must not change afterwards; nil empties the roster.
func (r *roster) set(m *controlapi.Map) {
	if m == nil {
		r.index.Store(nil)
		return
	}
	ix := &rosterIndex{
		m:      m,
		byName: make(map[string]*controlapi.Device, len(m.Peers)+1),
		byAddr: make(map[netip.Addr]*controlapi.Device, 2*len(m.Peers)+2),
		byKey:  make(map[key.Public]*controlapi.Device, len(m.Peers)+1),
	}
	add := func(d *controlapi.Device) {
		ix.byName[d.Name] = d
		ix.byKey[d.PublicKey] = d
		for _, a := range d.Addresses {
			ix.byAddr[a] = d
		}
	}
	for i := range m.Peers {
		add(&m.Peers[i])
	}
	add(&m.Self)
	r.index.Store(ix)
}

// current returns the published map, or nil. It is shared and read-only.
func (r *roster) current() *controlapi.Map {
	if ix := r.index.Load(); ix != nil {
		return ix.m
	}
	return nil
}

// Addresses returns this device's own mesh addresses.
func (r *roster) Addresses() []netip.Addr {
	if ix := r.index.Load(); ix != nil {
		return ix.m.Self.Addresses
	}
	return nil
}

// Resolve returns the addresses of a device by its name, with or without the
// mesh's domain; nil when no device has it.
func (r *roster) Resolve(name string) []netip.Addr {
	if ix := r.index.Load(); ix != nil {
		if dev := ix.named(name); dev != nil {
			return dev.Addresses
		}
	}
	return nil
}

// named returns the device with a name in any of its forms, or nil.
func (ix *rosterIndex) named(name string) *controlapi.Device {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if d := ix.m.Network.Domain; d != "" {
		name = strings.TrimSuffix(name, "."+d)
	}
	return ix.byName[name]
}

// Who returns the device that owns a mesh address.
func (r *roster) Who(a netip.Addr) (name string, tags []string, ok bool) {
	ix := r.index.Load()
	if ix == nil {
		return "", nil, false
	}
	dev := ix.byAddr[a.Unmap()]
	if dev == nil {
		return "", nil, false
	}
	return dev.Name, dev.Tags, true
}

// peer finds a member by name, id, address or public key.
func (r *roster) peer(s string) (controlapi.Device, bool) {
	ix := r.index.Load()
	if ix == nil {
		return controlapi.Device{}, false
	}
	if dev := ix.named(s); dev != nil {
		return *dev, true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if dev := ix.byAddr[a.Unmap()]; dev != nil {
			return *dev, true
		}
	}
	if k, err := key.ParsePublic(s); err == nil {
		if dev := ix.byKey[k]; dev != nil {
			return *dev, true
		}
	}
	for i := range ix.m.Peers {
		if ix.m.Peers[i].ID == s {
			return ix.m.Peers[i], true
		}
	}
	return controlapi.Device{}, false
}
