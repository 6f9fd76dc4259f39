package portmap

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// epoch follows a gateway's clock, which starts anew when it forgets its mappings.
type epoch struct {
	value uint32 // seconds
	at    time.Time
}

// lost notes what the gateway's clock shows now, and reports whether the
// gateway has forgotten everything since the last time.
func (e *epoch) lost(value uint32, now time.Time, judge func(server, client int64) bool) bool {
	before := *e
	e.value, e.at = value, now
	if before.at.IsZero() {
		return false
	}
	return judge(int64(value)-int64(before.value), int64(now.Sub(before.at)/time.Second))
}

// pmpLost is RFC 6886 section 3.6: the clock shows less than 7/8 of the time
// that passed since, with two seconds to spare.
func pmpLost(server, client int64) bool { return server < client*7/8-2 }

// pcpLost is RFC 6887 section 8.5: the clock went back, or the two clocks
// differ by more than 1/16 and two seconds.
func pcpLost(server, client int64) bool {
	return server < -1 || client+2 < server-server/16 || server+2 < client-client/16
}

// news is what a gateway told all hosts.
type news struct {
	pcp     bool
	epoch   uint32
	address netip.Addr // NAT-PMP
}

// parseNews reads an announcement (RFC 6886 section 3.2.1, RFC 6887 section 14.1).
func parseNews(b []byte) (news, bool) {
	if len(b) == pcpHeaderLen && b[0] == pcpVersion && b[1] == answerBit|pcpAnnounce && b[3] == 0 {
		return news{pcp: true, epoch: binary.BigEndian.Uint32(b[8:])}, true
	}
	a, err := parsePMPAddress(b)
	return news{epoch: a.epoch, address: a.address}, err == nil && a.result == 0
}
