package controlapi

import (
	"encoding/binary"
	"net/netip"

	"nexd/key"
)

// ProofLabel keeps the secret of the join proof apart from other uses of the key.
const ProofLabel = "nexd join proof v1"

// Challenge is what a joining device must answer. Token is opaque and carries
// the service's own record of the challenge; it expires within a minute or so.
type Challenge struct {
	ServerKey key.Public `json:"server_key" doc:"X25519 key to prove possession towards"`
	Token     string     `json:"token" doc:"opaque; returned in the join request"`
}

// What to do when the wanted name belongs to another device.
const (
	NameRefuse = "refuse" // the join is refused with code name_taken
	NameNumber = "number" // the next free of NAME-2, NAME-3, ... is given
)

// JoinRequest asks for membership. The same public key, proved again, is the
// same device: it keeps its id, name and addresses and gets a new credential.
type JoinRequest struct {
	RegKey      string     `json:"reg_key" maxLength:"256" doc:"secret part of the registration key"`
	PublicKey   key.Public `json:"public_key" doc:"WireGuard public key, base64"`
	Token       string     `json:"token" maxLength:"1024" doc:"token of the challenge"`
	Proof       []byte     `json:"proof" doc:"HMAC-SHA256 over the transcript, 32 bytes"`
	Name        string     `json:"name" maxLength:"63" doc:"wanted device name, a DNS label"`
	OnNameTaken string     `json:"on_name_taken,omitempty" enum:"refuse,number" doc:"what to do when the name is taken"`
	RequestIP   netip.Addr `json:"request_ip,omitzero" doc:"wanted IPv4 address"`
	Ephemeral   bool       `json:"ephemeral,omitempty" doc:"leave the network when the device stops"`
	Version     string     `json:"version,omitempty" maxLength:"64"`
	OS          string     `json:"os,omitempty" maxLength:"64"`
}

// Transcript is what the proof covers: every field that decides the outcome,
// each with its length before it (4 bytes, big endian).
func (r JoinRequest) Transcript() []byte {
	var b []byte
	add := func(field []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	add([]byte(r.Token))
	add(r.PublicKey.Bytes())
	add([]byte(r.RegKey))
	add([]byte(r.Name))
	add([]byte(r.OnNameTaken))
	ip, _ := r.RequestIP.MarshalText()
	add(ip)
	if r.Ephemeral {
		add([]byte{1})
	} else {
		add(nil)
	}
	return b
}

// JoinResponse makes the device a member. Credential is its own secret from now
// on; the registration key is not needed again.
type JoinResponse struct {
	Device     Device  `json:"device"`
	Network    Network `json:"network"`
	Credential string  `json:"credential"`
}
