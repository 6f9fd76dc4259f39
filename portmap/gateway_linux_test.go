package portmap

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// native4 writes an address as /proc/net/route does on this machine.
func native4(a string) string {
	b := netip.MustParseAddr(a).As4()
	return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b[:]))
}

func native6(a string) string {
	b := netip.MustParseAddr(a).As16()
	return hex.EncodeToString(b[:])
}

func TestGatewayOf(t *testing.T) {
	four := strings.Join([]string{
		"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
		"wlan0\t00000000\t" + native4("192.168.9.1") + "\t0003\t0\t0\t600\t00000000\t0\t0\t0",
		"eth0\t00000000\t" + native4("192.168.1.254") + "\t0003\t0\t0\t200\t00000000\t0\t0\t0",
		"eth0\t00000000\t" + native4("192.168.1.1") + "\t0003\t0\t0\t100\t00000000\t0\t0\t0",
		"eth0\t00000000\t" + native4("192.168.1.2") + "\t0001\t0\t0\t1\t00000000\t0\t0\t0", // no gateway
		"eth0\t00000000\t" + native4("192.168.1.3") + "\t0003\t0\t0\t1\t000000FF\t0\t0\t0", // not the default
		"eth0\t" + native4("192.168.1.0") + "\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0",
		"eth0\tx", "", "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0",
	}, "\n")
	six := strings.Join([]string{
		native6("::") + " 00 " + native6("::") + " 00 " + native6("fe80::1") + " 00000400 00000002 00000000 00000003     eth0",
		native6("::") + " 00 " + native6("::") + " 00 " + native6("fe80::2") + " 00000100 00000002 00000000 00000003     eth0",
		native6("::") + " 00 " + native6("::") + " 00 " + native6("2001:db8::9") + " 00000100 00000002 00000000 00000003    wlan0",
		native6("::") + " 00 " + native6("::") + " 00 " + native6("::") + " ffffffff 00000001 00000000 00200200       lo",
		native6("2001:db8::") + " 40 " + native6("::") + " 00 " + native6("fe80::9") + " 00000001 00000002 00000000 00000003     eth0",
		"x 00 y 00 z 0 0 0 0003 eth0",
	}, "\n")
	for _, tc := range []struct {
		routes, device, want string
		parse                func([]string) (route, bool)
	}{
		{four, "eth0", "192.168.1.1", parseRoute4},
		{four, "wlan0", "192.168.9.1", parseRoute4},
		{four, "ppp0", "invalid IP", parseRoute4},
		{six, "eth0", "fe80::2%eth0", parseRoute6},
		{six, "wlan0", "2001:db8::9", parseRoute6},
		{six, "lo", "invalid IP", parseRoute6},
		{"", "eth0", "invalid IP", parseRoute6},
	} {
		if got := bestGateway(strings.NewReader(tc.routes), tc.device, tc.parse); got.String() != tc.want {
			t.Errorf("%s: %s, want %s", tc.device, got, tc.want)
		}
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add("eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000")
	f.Add("00000000000000000000000000000000 00 0 00 fe800000000000000000000000000001 00000400 2 0 00000003 eth0")
	f.Fuzz(func(t *testing.T, line string) {
		fields := strings.Fields(line)
		if r, ok := parseRoute4(fields); ok && (!r.gateway.Is4() || r.gateway.IsUnspecified()) {
			t.Errorf("%q: %+v", line, r)
		}
		if r, ok := parseRoute6(fields); ok && (!r.gateway.Is6() || r.gateway.IsUnspecified()) {
			t.Errorf("%q: %+v", line, r)
		}
	})
}
