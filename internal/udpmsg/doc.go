// Package udpmsg is what recvmmsg and sendmmsg take of UDP sockets beside the
// data, on Linux: the two calls themselves ([Receive], [Send]), socket addresses
// ([Addr], [PutAddr]), and the control messages about many datagrams in one
// message, as the kernel joined them ([Joined], UDP_GRO) or shall cut them
// ([Cut], UDP_SEGMENT).
//
// It owns no socket and no buffer, allocates nothing, and knows nothing of what
// is in the datagrams. The calls are made here and not through x/net, which
// allocates an address for each datagram. They do not block, and so are not
// announced to Go's scheduler: what takes longer than 20 µs would otherwise lose
// its P to another thread, and keep the scheduler's monitor awake (12 % of a busy
// relay).
package udpmsg
