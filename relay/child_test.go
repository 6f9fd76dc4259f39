package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"

	"nexd/key"
)

// childEnv makes the test program a relay and nothing else: a benchmark can
// then see what the relay alone costs. Its value is the service's key and the
// relay's private key.
const childEnv = "RELAY_CHILD"

// runChild is a relay until its standard input ends. It prints its addresses.
func runChild() error {
	issuer, private, _ := strings.Cut(os.Getenv(childEnv), " ")
	service, err := base64.StdEncoding.DecodeString(issuer)
	if err != nil {
		return err
	}
	p, err := key.ParsePrivate(private)
	if err != nil {
		return err
	}
	s, err := NewServer(ServerConfig{
		Private: p, Issuers: []ed25519.PublicKey{service},
		Limits: Limits{DeviceRate: -1, NetworkRate: -1, DevicePackets: -1},
	})
	if err != nil {
		return err
	}
	sockets, err := Listen(context.Background(), "127.0.0.1:0", 2, nil)
	if err != nil {
		return err
	}
	web := httptest.NewUnstartedServer(s)
	web.Listener = Listener(web.Listener)
	web.StartTLS()
	defer web.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	plain, err := tls.Listen("tcp", "127.0.0.1:0", web.TLS)
	if err != nil {
		return err
	}
	defer plain.Close()
	go copyPairs(plain)
	fmt.Println(sockets[0].LocalAddr(), web.URL, plain.Addr())
	return s.Run(ctx, sockets...)
}

// copyPairs is what a relay is compared with: it copies from each first
// connection to the next, and knows no frames.
func copyPairs(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		go from.(*tls.Conn).Handshake() // else at the first read
		to, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer to.Close()
			defer from.Close()
			to.Write([]byte{0})
			io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, writeChunk))
		}()
	}
}
