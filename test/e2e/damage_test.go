//go:build linux

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
)

// pcapHeader and recordHeader are their bytes in tcpdump's files.
const (
	pcapHeader   = 24
	recordHeader = 16
)

// damage is one thing that may be wrong with a packet; ip begins at its IP header.
// It returns what is left of it, or nil for a packet it cannot be done to.
type damage struct {
	name string
	do   func(ip []byte) []byte
}

// of reports whether ip is a packet of a protocol with some payload, and no fragment.
func of(ip []byte, version, protocol byte) bool {
	if ip[0]>>4 != version {
		return false
	}
	if version == 4 {
		return ip[9] == protocol && binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 && len(ip) > 72
	}
	return ip[6] == protocol && len(ip) > 92
}

// badHeader has another hop limit than the sum of the header says.
var badHeader = damage{"a wrong IPv4 header", func(ip []byte) []byte {
	if ip[0]>>4 != 4 {
		return nil
	}
	ip[8]--
	return ip
}}

// badPayload has one bit flipped at the end.
func badPayload(version, protocol byte) damage {
	return damage{fmt.Sprintf("a wrong payload of protocol %d over IPv%d", protocol, version), func(ip []byte) []byte {
		if !of(ip, version, protocol) {
			return nil
		}
		ip[len(ip)-1] ^= 1
		return ip
	}}
}

// badUDPLength has another length in UDP's header than in IP's.
func badUDPLength(version byte) damage {
	return damage{fmt.Sprintf("a wrong UDP length over IPv%d", version), func(ip []byte) []byte {
		if !of(ip, version, 17) {
			return nil
		}
		at := 20
		if version == 6 {
			at = 40
		}
		ip[at+5] ^= 4
		return ip
	}}
}

// badLength is a byte shorter than IP's header says.
func badLength(version byte) damage {
	return damage{fmt.Sprintf("a byte too few over IPv%d", version), func(ip []byte) []byte {
		if ip[0]>>4 != version || len(ip) < 100 {
			return nil
		}
		return ip[:len(ip)-1]
	}}
}

// damage appends to a recording that has ended one packet of each damage, and
// returns how many packets are in front of them.
func (r *recording) damage(t *testing.T, damages []damage) (sound int) {
	t.Helper()
	all, err := os.ReadFile(r.file)
	if err != nil || len(all) < pcapHeader {
		t.Fatalf("%s: %d bytes, %v", r.file, len(all), err)
	}
	var damaged []byte
	damages = slices.Clone(damages)
	for rest := all[pcapHeader:]; len(rest) >= recordHeader; sound++ {
		size := recordHeader + int(binary.LittleEndian.Uint32(rest[8:]))
		if size > len(rest) {
			t.Fatalf("%s: a packet is cut off", r.file)
		}
		for i, d := range damages {
			record := slices.Clone(rest[:size])
			head := recordHeader + r.link
			if ip := d.do(record[head:]); ip != nil {
				record = record[:head+len(ip)]
				binary.LittleEndian.PutUint32(record[8:], uint32(len(record)-recordHeader))
				binary.LittleEndian.PutUint32(record[12:], uint32(len(record)-recordHeader))
				damaged = append(damaged, record...)
				damages = slices.Delete(damages, i, i+1)
				break
			}
		}
		rest = rest[size:]
	}
	for _, d := range damages {
		t.Errorf("%s: no packet was found for %s", r.Name, d.name)
	}
	f, err := os.OpenFile(r.file, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.Write(damaged)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return sound
}
