//go:build !linux

package portmap

import (
	"fmt"
	"net/netip"
	"runtime"
)

// defaultGateway is not known here: PCP and NAT-PMP cannot be asked.
func defaultGateway(bool, string) (netip.Addr, error) {
	return netip.Addr{}, fmt.Errorf("the default gateway is not looked up on %s", runtime.GOOS)
}
