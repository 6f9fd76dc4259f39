package portmap

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRoutes bounds how many lines are looked at.
const maxRoutes = 1 << 16

// defaultGateway reads the kernel's routes: the default route of the device
// that has the least metric.
func defaultGateway(v6 bool, device string) (netip.Addr, error) {
	file, parse := "/proc/thread-self/net/route", parseRoute4
	if v6 {
		file, parse = "/proc/thread-self/net/ipv6_route", parseRoute6
	}
	f, err := os.Open(file) // of this thread's namespace
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the routes: %w", err)
	}
	defer f.Close()
	gateway := bestGateway(f, device, parse)
	if !gateway.IsValid() {
		return netip.Addr{}, fmt.Errorf("no gateway on %s", device)
	}
	return gateway, nil
}

// route is a default route.
type route struct {
	device  string
	gateway netip.Addr
	metric  uint64
}

// bestGateway returns the gateway of the best default route of the device; the
// zero value: there is none.
func bestGateway(r io.Reader, device string, parse func([]string) (route, bool)) netip.Addr {
	var best route
	lines := bufio.NewScanner(r)
	for n := 0; n < maxRoutes && lines.Scan(); n++ {
		if r, ok := parse(strings.Fields(lines.Text())); ok && r.device == device && (!best.gateway.IsValid() || r.metric < best.metric) {
			best = r
		}
	}
	return best.gateway
}

// parseRoute4 reads a line of /proc/net/route: device, destination, gateway,
// flags, two counters, metric (decimal), mask. Addresses are in the machine's
// byte order.
func parseRoute4(f []string) (route, bool) {
	if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
		return route{}, false
	}
	gateway, err := strconv.ParseUint(f[2], 16, 32)
	if err != nil || gateway == 0 || !throughGateway(f[3]) {
		return route{}, false
	}
	metric, err := strconv.ParseUint(f[6], 10, 32)
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(gateway))
	return route{device: f[0], gateway: netip.AddrFrom4(b), metric: metric}, err == nil
}

// parseRoute6 reads a line of /proc/net/ipv6_route: destination, its length,
// source, its length, next hop, metric, two counters, flags, device.
func parseRoute6(f []string) (route, bool) {
	if len(f) < 10 || f[1] != "00" || strings.Trim(f[0], "0") != "" || !throughGateway(f[8]) {
		return route{}, false
	}
	var b [16]byte
	if n, err := hex.Decode(b[:], []byte(f[4][:min(len(f[4]), 32)])); err != nil || n != 16 {
		return route{}, false
	}
	gateway := netip.AddrFrom16(b)
	if gateway.IsLinkLocalUnicast() {
		gateway = gateway.WithZone(f[9])
	}
	metric, err := strconv.ParseUint(f[5], 16, 32)
	return route{device: f[9], gateway: gateway, metric: metric}, err == nil && !gateway.IsUnspecified()
}

func throughGateway(flags string) bool {
	const wanted = unix.RTF_UP | unix.RTF_GATEWAY
	n, err := strconv.ParseUint(flags, 16, 32)
	return err == nil && n&wanted == wanted
}
