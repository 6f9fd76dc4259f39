package portmap

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	patience = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}
	searchPatience = []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}
	goleak.VerifyTestMain(m)
}

var loopback = netip.MustParseAddr("127.0.0.1")

// testLink has the gateway on loopback.
var testLink = link{gateway: loopback, local: loopback, prefix: netip.MustParsePrefix("127.0.0.0/8"), device: "lo"}

// gateway is a router of the test on loopback.
type gateway struct {
	t    *testing.T
	conn *net.UDPConn // PCP and NAT-PMP
	ssdp *net.UDPConn
	http *httptest.Server

	mu       sync.Mutex // guards what follows
	pcp, pmp bool
	upnp     string         // the kind of service: "IP:1", "IP:2", "PPP:1"; "": none
	outside  string         // its address
	lifetime uint32         // seconds
	result   byte           // refuses with it
	began    time.Time      // of the epoch
	mapped   map[int]int    // inside by outside port
	asked    map[string]int // requests by what they asked
	taken    map[int]bool   // ports outside that somebody else has
	forever  bool           // UPnP: permanent mappings only
	spoil    func(answer []byte) []byte
	describe func(http.ResponseWriter) bool // answers in place of it
	location string
}

// newGateway starts one that set has made what it is.
func newGateway(t *testing.T, set func(*gateway)) *gateway {
	t.Helper()
	g := &gateway{
		t: t, outside: "192.0.2.77", lifetime: 7200, began: time.Now().Add(-time.Hour),
		mapped: map[int]int{}, asked: map[string]int{}, taken: map[int]bool{},
	}
	g.conn, g.ssdp = listenUDP(t), listenUDP(t)
	g.http = httptest.NewServer(g)
	g.location = g.http.URL + "/root.xml"
	set(g)
	var served sync.WaitGroup
	served.Go(func() { g.serve(g.conn, g.answer) })
	served.Go(func() { g.serve(g.ssdp, g.found) })
	t.Cleanup(func() {
		g.conn.Close()
		g.ssdp.Close()
		g.http.Close()
		served.Wait()
	})
	return g
}

// listenUDP opens a socket until the test ends.
func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func portOf(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// finder asks this gateway.
func (g *gateway) finder() *finder {
	return &finder{secret: []byte("test"), port: portOf(g.conn), ssdp: netip.AddrPortFrom(loopback, portOf(g.ssdp))}
}

func (g *gateway) serve(c *net.UDPConn, answer func([]byte) []byte) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		g.mu.Lock()
		a := answer(b[:n])
		if a != nil && g.spoil != nil {
			a = g.spoil(a)
		}
		g.mu.Unlock()
		if a != nil {
			c.WriteToUDPAddrPort(a, from)
		}
	}
}

func (g *gateway) seconds() uint32 { return uint32(time.Since(g.began) / time.Second) }

// grant maps a port as a router does.
func (g *gateway) grant(inside, wanted int, lifetime uint32) (outside int) {
	for out, in := range g.mapped {
		if in == inside {
			delete(g.mapped, out)
			wanted = out
		}
	}
	if lifetime == 0 {
		return 0
	}
	for g.taken[wanted] || wanted == 0 {
		wanted++
	}
	g.mapped[wanted] = inside
	return wanted
}

// answer speaks PCP and NAT-PMP. mu is held.
func (g *gateway) answer(b []byte) []byte {
	switch {
	case b[0] == pcpVersion && g.pcp && len(b) == pcpMapLen:
		g.asked["pcp"]++
		a := bytes.Clone(b)
		a[1] |= answerBit
		a[2], a[3] = 0, g.result
		clear(a[8:24])
		binary.BigEndian.PutUint32(a[8:], g.seconds())
		lifetime := min(binary.BigEndian.Uint32(b[4:]), g.lifetime)
		binary.BigEndian.PutUint32(a[4:], lifetime)
		out := g.grant(int(binary.BigEndian.Uint16(b[40:])), int(binary.BigEndian.Uint16(b[42:])), lifetime)
		binary.BigEndian.PutUint16(a[42:], uint16(out))
		copy(a[44:], appendAddr16(nil, netip.MustParseAddr(g.outside)))
		return a
	case b[0] == pcpVersion && g.pmp:
		return binary.BigEndian.AppendUint32([]byte{0, b[1] | answerBit, 0, pmpBadVersion}, g.seconds())
	case b[0] == 0 && g.pmp && b[1] == pmpAddress:
		g.asked["pmp address"]++
		a := binary.BigEndian.AppendUint32([]byte{0, answerBit, 0, g.result}, g.seconds())
		return append(a, netip.MustParseAddr(g.outside).AsSlice()...)
	case b[0] == 0 && g.pmp && b[1] == pmpMapUDP:
		g.asked["pmp map"]++
		lifetime := min(binary.BigEndian.Uint32(b[8:]), g.lifetime)
		out := g.grant(int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:])), lifetime)
		a := binary.BigEndian.AppendUint32([]byte{0, answerBit | pmpMapUDP, 0, g.result}, g.seconds())
		a = append(a, b[4:6]...)
		a = binary.BigEndian.AppendUint16(a, uint16(out))
		return binary.BigEndian.AppendUint32(a, lifetime)
	}
	return nil
}

// found answers a search. mu is held.
func (g *gateway) found(b []byte) []byte {
	if g.upnp == "" || !bytes.HasPrefix(b, []byte("M-SEARCH * HTTP/1.1\r\n")) || !bytes.Contains(b, []byte("ssdp:discover")) {
		return nil
	}
	g.asked["search"]++
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nUSN: uuid:1\r\nLOCATION: %s\r\n\r\n", g.location)
}

const description = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>test</friendlyName><deviceList><device>
<deviceList><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WAN%sConnection:%s</serviceType>
<controlURL>/control</controlURL></service></serviceList></device></deviceList></device></deviceList></device></root>`

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[r.Method+" "+r.URL.Path]++
	if g.describe != nil && g.describe(w) {
		return
	}
	if r.Method == http.MethodGet {
		kind, version, _ := strings.Cut(g.upnp, ":")
		fmt.Fprintf(w, description, kind, version)
		return
	}
	g.control(w, r)
}

// control is the service. mu is held.
func (g *gateway) control(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPACTION"), `"`), "#")
	g.asked[action]++
	var e struct {
		Body struct {
			Action struct {
				Args []struct {
					XMLName xml.Name
					Value   string `xml:",chardata"`
				} `xml:",any"`
			} `xml:",any"`
		}
	}
	if err := xml.Unmarshal(body, &e); err != nil {
		g.t.Errorf("%s: %v in %s", action, err, body)
	}
	args := map[string]string{}
	for _, a := range e.Body.Action.Args {
		args[a.XMLName.Local] = a.Value
	}
	external, _ := strconv.Atoi(args["NewExternalPort"])
	internal, _ := strconv.Atoi(args["NewInternalPort"])
	fault := 0
	out := ""
	switch action {
	case "GetExternalIPAddress":
		out = "<NewExternalIPAddress>" + g.outside + "</NewExternalIPAddress>"
	case "AddPortMapping", "AddAnyPortMapping":
		if args["NewInternalClient"] != loopback.String() || args["NewProtocol"] != "UDP" {
			g.t.Errorf("%s: %v", action, args)
		}
		switch {
		case g.forever && args["NewLeaseDuration"] != "0":
			fault = upnpPermanent
		case action == "AddAnyPortMapping":
			out = fmt.Sprintf("<NewReservedPort>%d</NewReservedPort>", g.grant(internal, external, 1))
		case g.taken[external]:
			fault = upnpConflict
		default:
			g.mapped[external] = internal
		}
	case "DeletePortMapping":
		delete(g.mapped, external)
	default:
		fault = 401
	}
	if g.result != 0 {
		fault = int(g.result)
	}
	const envelope = `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>`
	if fault != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, envelope, fmt.Sprintf(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>no</errorDescription></UPnPError></detail></s:Fault>`, fault))
		return
	}
	fmt.Fprintf(w, envelope, fmt.Sprintf(`<u:%sResponse xmlns:u="urn:x">%s</u:%sResponse>`, action, out, action))
}

// count returns how often something was asked.
func (g *gateway) count(what string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[what]
}

// mappings returns the ports inside by those outside.
func (g *gateway) mappings() map[int]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.mapped)
}
