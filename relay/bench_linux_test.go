package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"nexd/key"
)

// The benchmarks send packets of 1400 bytes through a relay that is a process
// of its own, from one client to another on loopback, and divide by the time
// that process was on a CPU. TURN is coturn, where it is installed, with the
// same sender and receiver: channel data in, a plain datagram out.
//
//	go test -run xxx -bench Forward -benchtime 500000x ./relay
const benchPacket = 1400

func BenchmarkForward(b *testing.B) {
	for _, c := range []struct {
		name    string
		segment bool
	}{{"joined", true}, {"single", false}} {
		b.Run("relay/"+c.name, func(b *testing.B) {
			pid, from, to, frame := benchRelay(b)
			pump(b, pid, from, to, frame, c.segment)
		})
		b.Run("turn/"+c.name, func(b *testing.B) {
			pid, from, to, frame := benchTURN(b)
			pump(b, pid, from, to, frame, c.segment)
		})
	}
}

// pump sends b.N frames with at most a window of them on their way.
func pump(b *testing.B, pid int, from *Socket, to *Socket, frame outFrame, segment bool) {
	from.segment.Store(segment)
	var received atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := newInbox(to)
		for {
			n, err := in.read()
			if err != nil {
				return
			}
			for i := range n {
				packet, size, _ := in.packet(i)
				if size > 0 {
					received.Add(int64((len(packet) + size - 1) / size))
				}
			}
		}
	}()
	var o outbox
	var t tally
	o.init(from)
	l := &link{udp: from, addr: frame.to}
	const window, burst = 1024, 64
	buf := make([]byte, 0, burst*len(frame.b))
	for range burst {
		buf = append(buf, frame.b...)
	}
	before := cpuTime(b, pid)
	base := received.Load()
	b.ResetTimer()
	lost := int64(0)
	for sent := int64(0); sent < int64(b.N); sent += burst {
		for i := range burst {
			o.add(nil, l, buf[i*len(frame.b):(i+1)*len(frame.b)], &t)
		}
		o.flush(&t)
		for stalled := time.Now(); sent+burst-lost-(received.Load()-base) > window-burst; {
			time.Sleep(20 * time.Microsecond)
			if time.Since(stalled) > 100*time.Millisecond {
				lost = sent + burst - (received.Load() - base)
			}
		}
	}
	b.StopTimer()
	cpu := cpuTime(b, pid) - before
	got := received.Load() - base
	to.interrupt()
	<-done
	if cpu > 0 {
		b.ReportMetric(float64(got)/cpu.Seconds(), "packets/cpu-s")
		b.ReportMetric(float64(got)*benchPacket*8/1e9/cpu.Seconds(), "Gbit/cpu-s")
	}
	b.ReportMetric(float64(got)/b.Elapsed().Seconds(), "packets/s")
	b.ReportMetric(100*float64(lost)/float64(b.N), "%lost")
}

type outFrame struct {
	to netip.AddrPort
	b  []byte
}

// cpuTime is what a process has used, in the kernel's behalf too.
func cpuTime(b *testing.B, pid int) time.Duration {
	var total time.Duration
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, task := range tasks {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name())); err == nil {
			var ns int64
			fmt.Sscan(string(text), &ns)
			total += time.Duration(ns)
		}
	}
	return total
}

// benchRelay starts a relay with two sessions and a channel between them.
func benchRelay(b *testing.B) (pid int, from, to *Socket, frame outFrame) {
	r, pid, _ := benchChild(b)
	p, q := key.NewPrivate(), key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour)).join()
	y := r.raw(q, r.service.credential(q.Public(), "net", time.Hour)).join()
	for _, pair := range []struct {
		x    *raw
		peer key.Public
	}{{x, q.Public()}, {y, p.Public()}} {
		pair.x.put(appendKeyed(nil, header{FrameOpen, 1, pair.x.session}, pair.peer))
		pair.x.want(FrameOpened)
	}
	frame = outFrame{r.udp, append(appendHeader(nil, header{FrameData, 1, x.session}), make([]byte, benchPacket)...)}
	return pid, benchSocket(b, x.conn), benchSocket(b, y.conn), frame
}

func benchSocket(b *testing.B, c *net.UDPConn) *Socket {
	c.SetReadDeadline(time.Time{})
	s, err := NewSocket(c, nil)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// startChild starts a process that ends with the benchmark, and returns what it prints.
func startChild(b testing.TB, cmd *exec.Cmd) *bufio.Reader {
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Process.Signal(os.Interrupt)
		ended := make(chan struct{})
		go func() {
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				cmd.Process.Kill()
			}
		}()
		cmd.Wait()
		close(ended)
	})
	return bufio.NewReader(out)
}

// benchTURN starts coturn with an allocation of one client, and a channel to another.
func benchTURN(b *testing.B) (pid int, from, to *Socket, frame outFrame) {
	program, err := exec.LookPath("turnserver")
	if err != nil {
		b.Skip(err) // not in test/setup.sh: only who measures needs it
	}
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	free := listen()
	server := netip.MustParseAddrPort(free.LocalAddr().String())
	free.Close()
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, "-n", "--no-auth", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--allow-loopback-peers",
		"--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", fmt.Sprintf("--listening-port=%d", server.Port()),
		"--log-file=stdout", "--simple-log", "--pidfile="+b.TempDir()+"/pid", "--userdb="+b.TempDir()+"/db")
	out := startChild(b, cmd)
	go io.Copy(io.Discard, out)
	x, y := listen(), listen()
	// Allocate: REQUESTED-TRANSPORT is UDP.
	ask(b, x, server, 0x0003, []byte{0, 0x19, 0, 4, 17, 0, 0, 0})
	peer := netip.MustParseAddrPort(y.LocalAddr().String())
	bind := []byte{0, 0x0C, 0, 4, 0x40, 0, 0, 0, 0, 0x12, 0, 8, 0, 1}
	bind = binary.BigEndian.AppendUint16(bind, peer.Port()^0x2112)
	ip := peer.Addr().As4()
	bind = binary.BigEndian.AppendUint32(bind, binary.BigEndian.Uint32(ip[:])^0x2112A442)
	ask(b, x, server, 0x0009, bind) // ChannelBind: CHANNEL-NUMBER, XOR-PEER-ADDRESS
	data := binary.BigEndian.AppendUint16([]byte{0x40, 0}, benchPacket)
	return cmd.Process.Pid, benchSocket(b, x), benchSocket(b, y), outFrame{server, append(data, make([]byte, benchPacket)...)}
}

// ask sends a STUN request until its success comes.
func ask(b *testing.B, c *net.UDPConn, server netip.AddrPort, method uint16, attributes []byte) {
	request := binary.BigEndian.AppendUint16(nil, method)
	request = binary.BigEndian.AppendUint16(request, uint16(len(attributes)))
	request = append(request, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, byte(method>>8), byte(method))
	request = append(request, attributes...)
	answer := make([]byte, 2048)
	for range 100 {
		c.WriteToUDPAddrPort(request, server)
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _, err := c.ReadFromUDPAddrPort(answer)
		if err == nil && n >= 20 && binary.BigEndian.Uint16(answer) == method|0x0100 {
			return
		}
	}
	b.Fatalf("no success for method %#x; last answer %x", method, answer[:40])
}

// BenchmarkForwardTLS compares the relay over WebSocket and TLS with one that
// only copies bytes between two TLS connections.
func BenchmarkForwardTLS(b *testing.B) {
	const frames = 11 // in a record of 16 KiB
	b.Run("relay", func(b *testing.B) {
		r, pid, _ := benchChild(b)
		p, q := key.NewPrivate(), key.NewPrivate()
		x := r.rawTLS(p, r.service.credential(p.Public(), "net", time.Hour))
		y := r.rawTLS(q, r.service.credential(q.Public(), "net", time.Hour))
		defer x.ws.CloseNow()
		defer y.ws.CloseNow()
		for _, pair := range []struct {
			x    *rawTLS
			peer key.Public
		}{{x, q.Public()}, {y, p.Public()}} {
			pair.x.ws.Write(b.Context(), websocket.MessageBinary, appendFramed(nil, appendKeyed(nil, header{FrameOpen, 1, pair.x.session}, pair.peer), nil))
			if _, _, err := pair.x.ws.Read(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		// From here on as our client does: messages of one TLS record.
		in := &wsConn{rw: x.conn, client: true}
		out := &wsConn{rw: y.conn, client: true}
		frame := append(appendHeader(nil, header{FrameData, 1, x.session}), make([]byte, benchPacket)...)
		room := make([]byte, 0, writeChunk)
		stream(b, pid, frames*(len(frame)+lengthSize), func() error {
			room = room[:wsHeadroom]
			for range frames {
				room = appendFramed(room, frame, nil)
			}
			return in.write(room)
		}, func() (n int, err error) {
			err = out.read(func(message []byte) error { n += len(message); return nil })
			return n, err
		})
	})
	b.Run("copy", func(b *testing.B) {
		r, pid, plain := benchChild(b)
		conf := r.web.Client().Transport.(*http.Transport).TLSClientConfig
		from, err := tls.Dial("tcp", plain, conf)
		if err != nil {
			b.Fatal(err)
		}
		defer from.Close()
		to, err := tls.Dial("tcp", plain, conf)
		if err != nil {
			b.Fatal(err)
		}
		defer to.Close()
		to.Read(make([]byte, 1))
		message, room := make([]byte, frames*(benchPacket+headerSize+lengthSize)), make([]byte, 64<<10)
		stream(b, pid, len(message), func() error {
			_, err := from.Write(message)
			return err
		}, func() (int, error) { return to.Read(room) })
	})
}

// stream sends b.N messages, of which at most 16 are on their way.
func stream(b *testing.B, pid int, size int, send func() error, receive func() (int, error)) {
	var got atomic.Int64
	done := make(chan error, 1)
	want := int64(b.N) * int64(size)
	go func() {
		for got.Load() < want {
			n, err := receive()
			if err != nil {
				done <- err
				return
			}
			got.Add(int64(n))
		}
		done <- nil
	}()
	before := cpuTime(b, pid)
	b.ResetTimer()
	for i := range b.N {
		for int64(i*size)-got.Load() > 15*int64(size) {
			time.Sleep(20 * time.Microsecond)
		}
		if err := send(); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if cpu := cpuTime(b, pid) - before; cpu > 0 {
		b.ReportMetric(float64(want)*8/1e9/cpu.Seconds(), "Gbit/cpu-s")
	}
	b.ReportMetric(float64(want)*8/1e9/b.Elapsed().Seconds(), "Gbit/s")
}

// benchChild starts a relay for WebSocket clients, and what it is compared with.
func benchChild(b testing.TB) (r *testRelay, pid int, plain string) {
	service, private := newService(b), key.NewPrivate()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+base64.StdEncoding.EncodeToString(service.public)+" "+private.Reveal())
	line, err := startChild(b, cmd).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	addrs := strings.Fields(line)
	// httptest's certificate is the same everywhere.
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.StartTLS()
	b.Cleanup(web.Close)
	r = &testRelay{t: b, service: service, private: private, udp: netip.MustParseAddrPort(addrs[0]), web: web, url: addrs[1]}
	return r, cmd.Process.Pid, addrs[2]
}
