package netstack

import "sync/atomic"

// Stats counts packets since the stack was made. Rx is from WireGuard to the
// stack, Tx from the stack to WireGuard; packets from the stack to its own
// addresses are in neither.
type Stats struct {
	RxPackets, RxBytes uint64
	RxMalformed        uint64 // dropped: not a whole IP packet
	RxForeign          uint64 // dropped: not to an address of the stack
	TxPackets, TxBytes uint64
	TxFull             uint64 // dropped: the queue to WireGuard was full
	TxClosed           uint64 // dropped: the device was closed
	TxOversize         uint64 // dropped: larger than WireGuard's buffer
	UDPFull            uint64 // datagrams dropped: their socket's buffer was full
}

type counters struct {
	rxPackets, rxBytes, rxMalformed, rxForeign       atomic.Uint64
	txPackets, txBytes, txFull, txClosed, txOversize atomic.Uint64
	udpFull                                          atomic.Uint64
}

func (c *counters) snapshot() Stats {
	return Stats{
		RxPackets: c.rxPackets.Load(), RxBytes: c.rxBytes.Load(),
		RxMalformed: c.rxMalformed.Load(), RxForeign: c.rxForeign.Load(),
		TxPackets: c.txPackets.Load(), TxBytes: c.txBytes.Load(),
		TxFull: c.txFull.Load(), TxClosed: c.txClosed.Load(), TxOversize: c.txOversize.Load(),
		UDPFull: c.udpFull.Load(),
	}
}
