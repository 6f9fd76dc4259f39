package portmap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

var exampleRequest = pcpRequest{
	client: netip.MustParseAddr("192.168.1.10"), nonce: nonce([]byte("0123456789ab")), inside: 51820,
	wanted: netip.MustParseAddrPort("198.51.100.7:51820"), lifetime: 7200,
}

const exampleQuestion = `
	02 01 0000 00001c20 00000000000000000000ffffc0a8010a
	303132333435363738396162 11 000000 ca6c ca6c 00000000000000000000ffffc6336407`

const exampleAnswer = `
	02 81 00 00 00000e10 00000064 000000000000000000000000
	303132333435363738396162 11 000000 ca6c ca6d 00000000000000000000ffffc6336407`

func TestPCPBytes(t *testing.T) {
	if got := exampleRequest.appendTo(nil); !bytes.Equal(got, unhex(exampleQuestion)) {
		t.Errorf("request % x", got)
	}
	got, err := parsePCP(unhex(exampleAnswer), exampleRequest)
	want := pcpAnswer{lifetime: 3600, epoch: 100, external: netip.MustParseAddrPort("198.51.100.7:51821")}
	if err != nil || got != want {
		t.Errorf("answer %+v, %v", got, err)
	}
	options := append(unhex(exampleAnswer), 2, 0, 0, 0) // are allowed, and not ours
	if got, err := parsePCP(options, exampleRequest); err != nil || got != want {
		t.Errorf("with an option %+v, %v", got, err)
	}
	any6 := pcpRequest{client: netip.MustParseAddr("2001:db8::1")}.appendTo(nil)
	if !bytes.Equal(any6[44:], make([]byte, 16)) {
		t.Errorf("any IPv6 address is % x", any6[44:])
	}
	if _, err := parsePCP(unhex("00 81 0001 00000005"), exampleRequest); !errors.Is(err, errOldGateway) {
		t.Errorf("a NAT-PMP gateway: %v", err)
	}
	if _, err := parsePCP(unhex("01 81 0001"), exampleRequest); !errors.Is(err, errOldGateway) {
		t.Errorf("a gateway of PCP version 1: %v", err)
	}
}

func TestPMPBytes(t *testing.T) {
	if got := (pmpRequest{inside: 51820, wanted: 40001, lifetime: 7200}).appendTo(nil); !bytes.Equal(got, unhex("00 01 0000 ca6c 9c41 00001c20")) {
		t.Errorf("request % x", got)
	}
	a, err := parsePMPAddress(unhex("00 80 0000 00000064 c6336407"))
	if err != nil || a != (pmpAnswer{epoch: 100, address: netip.MustParseAddr("198.51.100.7")}) {
		t.Errorf("address %+v, %v", a, err)
	}
	a, err = parsePMPMap(unhex("00 81 0000 00000064 ca6c 9c42 00000e10"), 51820)
	if err != nil || a != (pmpAnswer{epoch: 100, port: 40002, lifetime: 3600}) {
		t.Errorf("mapping %+v, %v", a, err)
	}
	a, err = parsePMPMap(unhex("00 81 0002 00000064"), 51820)
	if err != nil || a.result.String() != "not authorized" {
		t.Errorf("refused %+v, %v", a, err)
	}
	if s := pmpResult(700).String(); s != "error 700" {
		t.Error(s)
	}
}

func TestNews(t *testing.T) {
	if n, ok := parseNews(unhex("00 80 0000 00000003 c6336407")); !ok || n != (news{epoch: 3, address: netip.MustParseAddr("198.51.100.7")}) {
		t.Errorf("%+v %t", n, ok)
	}
	if n, ok := parseNews(unhex("02 80 0000 00000000 00000003 000000000000000000000000")); !ok || n != (news{pcp: true, epoch: 3}) {
		t.Errorf("%+v %t", n, ok)
	}
	for _, bad := range []string{"", "00", "00 81 0000 00000003 c6336407", "00 80 0003 00000003 00000000", "02 80 0001 00000000 00000003 000000000000000000000000"} {
		if n, ok := parseNews(unhex(bad)); ok {
			t.Errorf("%s: %+v", bad, n)
		}
	}
}

func TestEpoch(t *testing.T) {
	start := time.Unix(5000, 0)
	for _, tc := range []struct {
		what          string
		before, after uint32
		passed        time.Duration
		pmp, pcp      bool
	}{
		{"in step", 1000, 1100, 100 * time.Second, false, false},
		{"restarted", 1000, 3, 100 * time.Second, true, true},
		{"restarted, long ago", 1000, 2000, 3 * time.Hour, true, true},
		{"slow by 1/16", 1000, 1094, 100 * time.Second, false, false},
		{"slow by 1/8", 1000, 1086, 100 * time.Second, false, true},
		{"fast by 1/4", 1000, 1140, 100 * time.Second, false, true}, // NAT-PMP only minds lost time
		{"a second back", 1000, 999, 0, false, false},
		{"a packet late", 1000, 1000, 2 * time.Second, false, false},
	} {
		pmp, pcp := epoch{}, epoch{}
		if pmp.lost(tc.before, start, pmpLost) || pcp.lost(tc.before, start, pcpLost) {
			t.Errorf("%s: lost at first sight", tc.what)
		}
		if got := pmp.lost(tc.after, start.Add(tc.passed), pmpLost); got != tc.pmp {
			t.Errorf("%s: NAT-PMP %t", tc.what, got)
		}
		if got := pcp.lost(tc.after, start.Add(tc.passed), pcpLost); got != tc.pcp {
			t.Errorf("%s: PCP %t", tc.what, got)
		}
	}
}

func TestUselessAddresses(t *testing.T) {
	for a, want := range map[string]string{
		"198.51.100.7": "", "2001:db8::1": "", "8.8.8.8": "", "100.63.255.255": "", "198.18.0.5": "",
		"10.1.2.3": "behind a NAT", "172.16.0.1": "behind a NAT", "192.168.0.1": "behind a NAT", "100.64.0.1": "behind a NAT",
		"100.127.255.255": "behind a NAT", "169.254.1.1": "behind a NAT", "192.0.0.2": "behind a NAT", "fd00::1": "behind a NAT", "fe80::1": "behind a NAT",
		"0.0.0.0": "no address", "::": "no address", "127.0.0.1": "its address is", "0.1.2.3": "its address is",
		"224.0.0.1": "its address is", "255.255.255.255": "its address is", "::1": "its address is", "ff02::1": "its address is",
	} {
		if got := useless(netip.MustParseAddr(a)); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q", a, got)
		}
	}
	if useless(netip.Addr{}) == "" {
		t.Error("no address is of use")
	}
}

func TestLinkAllows(t *testing.T) {
	l := link{gateway: netip.MustParseAddr("192.168.1.1"), local: netip.MustParseAddr("192.168.1.10"), prefix: netip.MustParsePrefix("192.168.1.0/24")}
	public := link{gateway: netip.MustParseAddr("203.0.113.1"), local: netip.MustParseAddr("203.0.113.9"), prefix: netip.MustParsePrefix("203.0.113.0/24")}
	for _, tc := range []struct {
		l    link
		a    string
		want bool
	}{
		{l, "192.168.1.1", true},
		{l, "192.168.1.2", true},
		{l, "192.168.1.10", false}, // ourselves
		{l, "192.168.2.1", false},
		{l, "127.0.0.1", false},
		{l, "169.254.169.254", false},
		{l, "203.0.113.1", false},
		{public, "203.0.113.1", true},
		{public, "203.0.113.2", false}, // another customer
	} {
		if got := tc.l.allows(netip.MustParseAddr(tc.a)); got != tc.want {
			t.Errorf("on %s, %s: %t", tc.l.prefix, tc.a, got)
		}
	}
	if l.allows(netip.Addr{}) {
		t.Error("nobody is allowed")
	}
}

// answerTo makes the answer a gateway would give.
func answerTo(r pcpRequest, a pcpAnswer) []byte {
	b := r.appendTo(nil)
	b[1] |= answerBit
	b[3] = byte(a.result)
	binary.BigEndian.PutUint32(b[4:], a.lifetime)
	clear(b[8:24])
	binary.BigEndian.PutUint32(b[8:], a.epoch)
	binary.BigEndian.PutUint16(b[42:], a.external.Port())
	copy(b[44:], appendAddr16(nil, a.external.Addr()))
	return b
}

func FuzzPCP(f *testing.F) {
	f.Add(unhex(exampleAnswer), uint16(51820))
	f.Add(unhex("00 81 0001 00000005"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, inside uint16) {
		r := exampleRequest
		r.inside = inside
		a, err := parsePCP(b, r)
		if err != nil {
			return
		}
		if again, err := parsePCP(answerTo(r, a), r); err != nil || again != a {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}

func FuzzPMP(f *testing.F) {
	f.Add(unhex("00 80 0000 00000064 c6336407"), uint16(1))
	f.Add(unhex("00 81 0000 00000064 ca6c 9c42 00000e10"), uint16(51820))
	f.Add(unhex("02 80 0000 00000000 00000003 000000000000000000000000"), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, inside uint16) {
		if a, err := parsePMPAddress(b); err == nil && a.result == 0 && !a.address.Is4() {
			t.Errorf("% x: %+v", b, a)
		}
		if a, err := parsePMPMap(b, inside); err == nil && a.result == 0 && binary.BigEndian.Uint16(b[10:]) != a.port {
			t.Errorf("% x: %+v", b, a)
		}
		parseNews(b)
	})
}

func FuzzFound(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nLOCATION: http://a@192.168.1.1/\r\nContent-Length: 9999999999\r\n\r\n"))
	f.Add([]byte("NOTIFY * HTTP/1.1\r\n\r\n"))
	from := netip.MustParseAddr("192.168.1.1")
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, ok := parseFound(b, from); ok && (at.Scheme != "http" || at.Hostname() != "192.168.1.1" || at.User != nil) {
			t.Errorf("led to %s", at)
		}
	})
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(strings.NewReplacer("WAN%s", "WANIP", ":%s", ":1").Replace(description)))
	f.Add([]byte(`<root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>http://x/</URLBase><device></device></root>`))
	at := &url.URL{Scheme: "http", Host: "192.168.1.1:80", Path: "/root.xml"}
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := parseDescription(bytes.NewReader(b), at)
		if err != nil {
			return
		}
		if got := connections(root, at, guarded(netip.MustParseAddr("192.168.1.1"))); len(got) > maxServices {
			t.Errorf("%d services", len(got))
		}
	})
}
