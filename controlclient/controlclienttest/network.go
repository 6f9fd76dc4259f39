package controlclienttest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"nexd/controlapi"
	"nexd/key"
)

// network is the membership; Fake.mu guards it.
type network struct {
	info     controlapi.Network
	epoch    string
	revision uint64
	devices  map[string]controlapi.Device // by id
	holders  map[string]string            // credential -> device id
	log      []controlapi.Event           // deltas; log[i] led to revision i+1
	made     int
	regKeys  []controlapi.RegKeyInfo
}

func newNetwork() network {
	return network{
		info: controlapi.Network{
			ID: "net", Name: "default", Domain: controlapi.DefaultDomain,
			CIDRs: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd00:1::/64")},
		},
		epoch: "epoch-1", devices: map[string]controlapi.Device{}, holders: map[string]string{},
	}
}

// enroll gives a key a device, or finds the one it has.
func (n *network) enroll(req controlapi.JoinRequest) (controlapi.Device, *controlapi.Problem) {
	for _, d := range n.devices {
		if d.PublicKey == req.PublicKey {
			return d, nil
		}
	}
	name := req.Name
	for i := 2; n.taken(name); i++ {
		if req.OnNameTaken != controlapi.NameNumber {
			return controlapi.Device{}, &controlapi.Problem{
				Status: 409, Code: controlapi.CodeNameTaken,
				Detail: fmt.Sprintf("the name %q belongs to another device", name), Hint: "choose another with --hostname",
			}
		}
		name = fmt.Sprintf("%s-%d", req.Name, i)
	}
	return n.fresh(name, req.PublicKey, req.RequestIP), nil
}

func (n *network) taken(name string) bool {
	for _, d := range n.devices {
		if d.Name == name {
			return true
		}
	}
	return false
}

// fresh makes a record; it is not a member before put.
func (n *network) fresh(name string, public key.Public, want netip.Addr) controlapi.Device {
	n.made++
	v4 := netip.AddrFrom4([4]byte{100, 64, byte(n.made >> 8), byte(n.made)})
	if want.IsValid() {
		v4 = want
	}
	v6 := netip.AddrFrom16([16]byte{0: 0xfd, 3: 1, 14: byte(n.made >> 8), 15: byte(n.made)})
	return controlapi.Device{ID: fmt.Sprintf("dev-%d", n.made), Name: name, PublicKey: public, Addresses: []netip.Addr{v4, v6}}
}

// put records a device and returns the delta.
func (n *network) put(d controlapi.Device) controlapi.Event {
	n.devices[d.ID] = d
	return n.record(&controlapi.Delta{Upsert: []controlapi.Device{d}})
}

// remove forgets a device and its credentials and returns the delta.
func (n *network) remove(id string) controlapi.Event {
	delete(n.devices, id)
	maps.DeleteFunc(n.holders, func(_, holder string) bool { return holder == id })
	return n.record(&controlapi.Delta{Remove: []string{id}})
}

func (n *network) record(d *controlapi.Delta) controlapi.Event {
	n.revision++
	ev := controlapi.Event{Type: controlapi.EventDelta, Revision: n.revision, Delta: d}
	n.log = append(n.log, ev)
	return ev
}

// since returns what a stream of device id begins with.
func (n *network) since(id, epoch string, revision uint64) []controlapi.Event {
	if epoch != n.epoch || revision > n.revision {
		m := n.mapOf(id)
		return []controlapi.Event{{Type: controlapi.EventSnapshot, Revision: n.revision, Map: &m}}
	}
	events := []controlapi.Event{}
	for _, ev := range n.log[revision:] {
		events = append(events, forDevice(ev, id))
	}
	return events
}

// forDevice turns a delta about the device itself into its own record.
func forDevice(ev controlapi.Event, id string) controlapi.Event {
	if ev.Delta == nil || len(ev.Delta.Upsert) != 1 || ev.Delta.Upsert[0].ID != id {
		return ev
	}
	ev.Delta = &controlapi.Delta{Self: &ev.Delta.Upsert[0]}
	return ev
}

func (n *network) mapOf(id string) controlapi.Map {
	m := controlapi.Map{Epoch: n.epoch, Revision: n.revision, Self: n.devices[id], Network: n.info}
	for _, d := range n.sorted() {
		if d.ID != id {
			m.Peers = append(m.Peers, d)
		}
	}
	return m
}

func (n *network) sorted() []controlapi.Device {
	return slices.SortedFunc(maps.Values(n.devices), func(a, b controlapi.Device) int { return cmp.Compare(a.ID, b.ID) })
}

// find returns a device by id or name.
func (n *network) find(ref string) (controlapi.Device, bool) {
	if d, ok := n.devices[ref]; ok {
		return d, true
	}
	for _, d := range n.devices {
		if d.Name == ref {
			return d, true
		}
	}
	return controlapi.Device{}, false
}
