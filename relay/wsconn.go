package relay

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// wsConn is a WebSocket connection after its handshake: one goroutine reads
// messages, any may write them.
type wsConn struct {
	rw     io.ReadWriteCloser
	client bool   // we mask, and the other side does not
	before func() // of a write: sets its deadline; may be nil

	// Of the reading goroutine.
	room  *[]byte // nil: nothing is left of the last read
	at, n int     // what is left: room[at:n]
	parts []byte  // of a message that comes in parts, which no client or server of ours sends
	inOne bool    // there are such
	first [16]byte

	mu sync.Mutex // one frame is written at a time
}

// messages is what is read into; connections that wait have none.
var messages = sync.Pool{New: func() any { b := make([]byte, maxMessage+maxWSHeader); return &b }}

// read waits for bytes and hands each message that is complete to handle,
// which must not keep it. It returns nil after one or some, or when what came
// holds none (a ping, a part); or an error: of the connection, of what came
// (a [*wsError]), or of handle.
func (w *wsConn) read(handle func(message []byte) error) error {
	if w.room == nil {
		k, err := w.rw.Read(w.first[:])
		if k == 0 {
			return noProgress(err)
		}
		w.room = messages.Get().(*[]byte)
		w.at, w.n = 0, copy(*w.room, w.first[:k])
	}
	for {
		handled, err := w.take(handle)
		if err != nil || w.at == w.n {
			messages.Put(w.room)
			w.room = nil
		}
		if err != nil || handled {
			return err
		}
		if w.room == nil { // control frames and parts only
			return nil
		}
		if w.at > 0 {
			w.n = copy(*w.room, (*w.room)[w.at:w.n])
			w.at = 0
		}
		// A frame is not longer than room: there is space.
		k, err := w.rw.Read((*w.room)[w.n:])
		if k == 0 && err != nil {
			messages.Put(w.room)
			w.room = nil
			return err
		}
		w.n += k
	}
}

// noProgress makes an error of a read of nothing.
func noProgress(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// take handles the frames that are complete.
func (w *wsConn) take(handle func([]byte) error) (handled bool, err error) {
	for w.at < w.n {
		b := (*w.room)[w.at:w.n]
		h, err := parseWSHeader(b, !w.client)
		if err == errWSIncomplete || err == nil && len(b)-h.size < h.length {
			return handled, nil
		}
		if err != nil {
			return handled, err
		}
		payload := b[h.size : h.size+h.length]
		w.at += h.size + h.length
		if h.masked {
			mask(payload, h.key)
		}
		message, complete, err := w.frame(h, payload)
		if err != nil {
			return handled, err
		}
		if !complete {
			continue
		}
		handled = true
		if err := handle(message); err != nil {
			return handled, err
		}
	}
	return handled, nil
}

// frame returns the message a frame completes, if it does.
func (w *wsConn) frame(h wsHeader, payload []byte) (message []byte, complete bool, err error) {
	switch h.opcode {
	case wsPing:
		return nil, false, w.control(wsPong, payload)
	case wsPong:
		return nil, false, nil
	case wsClose:
		if len(payload) > 2 {
			payload = payload[:2]
		}
		_ = w.control(wsClose, payload)
		return nil, false, io.EOF
	case wsText:
		return nil, false, errWSText
	case wsBinary:
		if w.inOne {
			return nil, false, errWSParts
		}
		if h.final {
			return payload, true, nil
		}
		w.inOne, w.parts = true, append([]byte(nil), payload...)
		return nil, false, nil
	}
	if !w.inOne {
		return nil, false, errWSParts
	}
	if len(w.parts)+len(payload) > maxMessage {
		return nil, false, errWSLarge
	}
	w.parts = append(w.parts, payload...)
	if !h.final {
		return nil, false, nil
	}
	message = w.parts
	w.inOne, w.parts = false, nil
	return message, true, nil
}

// write writes a message, whose payload is room[wsHeadroom:] and which is
// changed by it: one Write, and so one TLS record if it is below 16 KiB.
func (w *wsConn) write(room []byte) error { return w.put(room, wsHeadroom, wsBinary) }

func (w *wsConn) put(room []byte, at int, opcode byte) error {
	var key [4]byte
	if w.client {
		rand.Read(key[:])
		mask(room[at:], key)
	}
	start := putWSHeader(room, at, opcode, w.client, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.before != nil {
		w.before()
	}
	_, err := w.rw.Write(room[start:])
	return err
}

// control writes a control frame.
func (w *wsConn) control(opcode byte, payload []byte) error {
	room := make([]byte, maxWSHeader, maxWSHeader+maxWSControl)
	return w.put(append(room, payload...), maxWSHeader, opcode)
}

// refuse says why the connection ends, if err is what came over it.
func (w *wsConn) refuse(err error) {
	var e *wsError
	if errors.As(err, &e) {
		_ = w.control(wsClose, binary.BigEndian.AppendUint16(nil, e.code))
	}
}

// detached is what the library that does the handshake gets for a connection:
// it reads and writes nothing after it, and must not close it.
type detached struct{ net.Conn }

// Close does nothing.
func (detached) Close() error { return nil }
