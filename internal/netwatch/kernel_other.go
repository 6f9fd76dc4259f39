//go:build !linux

package netwatch

import (
	"fmt"
	"runtime"
)

// openKernel is not there: addresses are compared.
func openKernel() (source, error) {
	return nil, fmt.Errorf("not on %s", runtime.GOOS)
}
