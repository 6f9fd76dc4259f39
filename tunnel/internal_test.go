package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"nexd/key"
)

// stillDevice hands out the same packets at every Read.
type stillDevice struct {
	tun.Device
	packets [][]byte
}

func (d *stillDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for i, p := range d.packets {
		sizes[i] = copy(bufs[i][offset:], p)
	}
	return len(d.packets), nil
}

func (d *stillDevice) Write(bufs [][]byte, _ int) (int, error) { return len(bufs), nil }
func (d *stillDevice) File() *os.File                          { return nil }

func TestGateAllocatesNothing(t *testing.T) {
	var d stillDevice
	tn := &Tunnel{epoch: time.Now()}
	g := &gate{Device: &d, tunnel: tn}
	table := newTable(2)
	for i := range byte(2) {
		m := &member{life: new(life)}
		m.life.active.Store(true)
		addr := netip.AddrFrom4([4]byte{100, 64, 0, i})
		table.byAddr[addr] = m
		p := make([]byte, 64)
		p[0] = 0x45
		copy(p[12:], addr.AsSlice())
		copy(p[16:], addr.AsSlice())
		d.packets = append(d.packets, p, p, p)
	}
	tn.table.Store(table)
	bufs, sizes := make([][]byte, 6), make([]int, 6)
	for i := range bufs {
		bufs[i] = make([]byte, 16+64)
	}
	if got := testing.AllocsPerRun(100, func() {
		g.Read(bufs, sizes, 16)
		g.Write(bufs, 16)
	}); got != 0 {
		t.Errorf("%v allocations per batch", got)
	}
}

func TestAnswerable(t *testing.T) {
	v4 := func(change func(p []byte)) []byte {
		p := make([]byte, 28)
		p[0], p[9] = 0x45, protoUDP
		copy(p[12:], []byte{100, 64, 0, 1, 100, 64, 0, 9})
		change(p)
		return p
	}
	v6 := func(change func(p []byte)) []byte {
		p := make([]byte, 48)
		p[0], p[6], p[8], p[24], p[39] = 0x60, protoUDP, 0xfd, 0xfd, 1
		change(p)
		return p
	}
	for name, c := range map[string]struct {
		pkt  []byte
		want bool
	}{
		"udp":               {v4(func([]byte) {}), true},
		"tcp":               {v4(func(p []byte) { p[9] = protoTCP }), true},
		"echo":              {v4(func(p []byte) { p[9], p[20] = protoICMP, 8 }), true},
		"icmp error":        {v4(func(p []byte) { p[9], p[20] = protoICMP, 3 }), false},
		"later fragment":    {v4(func(p []byte) { p[7] = 1 }), false},
		"broadcast":         {v4(func(p []byte) { copy(p[16:], []byte{255, 255, 255, 255}) }), false},
		"multicast":         {v4(func(p []byte) { p[16] = 224 }), false},
		"from nowhere":      {v4(func(p []byte) { clear(p[12:16]) }), false},
		"short header":      {v4(func(p []byte) { p[0] = 0x44 }), false},
		"long header":       {v4(func(p []byte) { p[0] = 0x4F }), false},
		"other protocol":    {v4(func(p []byte) { p[9] = 47 }), false},
		"v6 udp":            {v6(func([]byte) {}), true},
		"v6 echo":           {v6(func(p []byte) { p[6], p[40] = protoICMPv6, 128 }), true},
		"v6 icmp error":     {v6(func(p []byte) { p[6], p[40] = protoICMPv6, 1 }), false},
		"v6 router message": {v6(func(p []byte) { p[6], p[40] = protoICMPv6, 133 }), false},
		"v6 multicast":      {v6(func(p []byte) { p[24] = 0xff }), false},
		"v6 truncated":      {v6(func([]byte) {})[:44], false},
		"nothing":           {nil, false},
	} {
		if got := answerable(c.pkt); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzUnreachable: no packet of a local application may break the answer, and
// the answer is a packet of the stated length that nobody answers again.
func FuzzUnreachable(f *testing.F) {
	f.Add([]byte{})
	f.Add(append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2}, make([]byte, 8)...))
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 8, 6, 64, 0xfd}, make([]byte, 60)...))
	f.Fuzz(func(t *testing.T, pkt []byte) {
		source(pkt)
		if !answerable(pkt) {
			return
		}
		answer := unreachable(pkt)[headroom:]
		if answerable(answer) {
			t.Fatal("the answer would be answered")
		}
		if answer[0]>>4 == 4 {
			if int(binary.BigEndian.Uint16(answer[2:])) != len(answer) || len(answer) > maxAnswer4 {
				t.Fatal("wrong length")
			}
			if checksum(answer[:ipv4Header], 0) != 0 || checksum(answer[ipv4Header:], 0) != 0 {
				t.Fatal("wrong checksum")
			}
		} else if int(binary.BigEndian.Uint16(answer[4:]))+ipv6Header != len(answer) || len(answer) > maxAnswer6 {
			t.Fatal("wrong length")
		}
	})
}

func TestParsePeers(t *testing.T) {
	a, b := key.NewPrivate().Public(), key.NewPrivate().Public()
	text := "private_key=" + key.NewPrivate().RevealHex() + "\nlisten_port=1\n" +
		"public_key=" + a.Hex() + "\nlast_handshake_time_sec=3\nlast_handshake_time_nsec=4\nrx_bytes=5\ntx_bytes=6\n" +
		"public_key=zz\nrx_bytes=9\n" +
		"public_key=" + b.Hex() + "\nrx_bytes=7\nno value\n"
	got := parsePeers([]byte(text))
	if len(got) != 2 || got[a] != (devicePeer{handshake: 3e9 + 4, rx: 5, tx: 6}) || got[b] != (devicePeer{rx: 7}) {
		t.Errorf("got %+v", got)
	}
}

func TestLogIsTamed(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l.Verbosef("chatter")
	l.Errorf("%v - Failed to send data packets: %v", "peer", "no known endpoint for peer")
	if out.Len() != 0 {
		t.Errorf("logged: %s", &out)
	}
	for i := range 3 * logLines {
		l.Errorf("trouble %d", i)
	}
	if got := strings.Count(out.String(), "trouble"); got != logLines {
		t.Errorf("%d lines, want %d", got, logLines)
	}
	lg := &logger{kinds: make(map[string]*logKind)}
	start := time.Now()
	for range logLines + 7 {
		lg.admit("x", start)
	}
	if ok, missed := lg.admit("x", start.Add(logWindow+1)); !ok || missed != 7 {
		t.Error(fmt.Sprint("after the window: ", ok, missed))
	}
}
