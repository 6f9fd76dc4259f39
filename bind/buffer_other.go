//go:build !linux

package bind

// checkBuffers does nothing: only Linux is asked what buffers it gave.
func (b *Bind) checkBuffers() {}
