package portmap

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"
)

const (
	// maxBody bounds a description or an answer, in bytes.
	maxBody = 64 << 10
	// requestTime bounds one request.
	requestTime = 3 * time.Second
	// maxServices bounds how many connections of a gateway are asked.
	maxServices = 6
	// otherPorts is how many ports are tried when the wanted one is taken.
	otherPorts = 4
)

// Errors of the WANIPConnection service (2.4.16 of version 1, 2.5.16 of version 2).
const (
	upnpConflict  = 718 // another host has the port
	upnpPermanent = 725 // mappings last for ever
)

// wanConnection is what WANIPConnection 1 and 2 and WANPPPConnection 1 have.
type wanConnection interface {
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
	AddPortMappingCtx(ctx context.Context, remote string, external uint16, protocol string, port uint16, client string,
		enabled bool, description string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remote string, external uint16, protocol string) error
}

// anyPort is what WANIPConnection 2 has besides: the gateway finds a free port.
type anyPort interface {
	AddAnyPortMappingCtx(ctx context.Context, remote string, external uint16, protocol string, port uint16, client string,
		enabled bool, description string, lease uint32) (uint16, error)
}

// upnpWay is UPnP-IGD.
type upnpWay struct {
	link    link
	service wanConnection
}

// findUPnP asks the gateways that answered a search, and returns the first
// connection that has an address outside.
func findUPnP(ctx context.Context, l link, at []*url.URL) (*upnpWay, error) {
	var last error
	for _, u := range at {
		host, err := netip.ParseAddr(u.Hostname())
		if err != nil || !l.allows(host) {
			last = fmt.Errorf("%s is not on this network", u.Host)
			continue
		}
		services, err := describe(ctx, u, guarded(host))
		if err != nil {
			last = err
			continue
		}
		last = errors.New("the gateway has no connection to the internet")
		for _, s := range services {
			w := &upnpWay{link: l, service: s}
			address, err := w.outside(ctx)
			if err == nil && !address.IsUnspecified() {
				return w, nil
			}
			if err != nil {
				last = err
			}
		}
	}
	return nil, last
}

// guarded returns a client that speaks with one host, whatever it is told: no
// other address, no proxy, no redirection, no endless answer.
func guarded(host netip.Addr) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(addr)
			if err != nil || to.Addr() != host {
				return nil, fmt.Errorf("%s is not the gateway", addr)
			}
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10,
	}
	return &http.Client{
		Transport:     bounded{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       requestTime,
	}
}

// bounded cuts the bodies of answers.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, maxBody), answer.Body}
	}
	return answer, err
}

// describe reads a gateway's description and returns its connections.
func describe(ctx context.Context, at *url.URL, client *http.Client) ([]wanConnection, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("read the gateway's description: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: HTTP status %d", at, answer.StatusCode)
	}
	root, err := parseDescription(answer.Body, at)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	return connections(root, at, client), nil
}

// parseDescription reads a description (UPnP Device Architecture 1.1, section 2.3).
func parseDescription(r io.Reader, at *url.URL) (*goupnp.RootDevice, error) {
	root := &goupnp.RootDevice{}
	d := xml.NewDecoder(r)
	d.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := d.Decode(root); err != nil {
		return nil, err
	}
	base := at
	if root.URLBaseStr != "" {
		given, err := url.Parse(root.URLBaseStr)
		if err != nil {
			return nil, err
		}
		base = given
	}
	root.SetURLBase(base)
	return root, nil
}

// connections returns the services that map ports, the best first, speaking
// through client alone.
func connections(root *goupnp.RootDevice, at *url.URL, client *http.Client) []wanConnection {
	var out []wanConnection
	add := func(s *goupnp.ServiceClient, c wanConnection) {
		if len(out) < maxServices && s.Service.ControlURL.Ok {
			s.SOAPClient.HTTPClient = *client
			out = append(out, c)
		}
	}
	// The error of each is that there is none.
	newer, _ := internetgateway2.NewWANIPConnection2ClientsFromRootDevice(root, at)
	for _, c := range newer {
		add(&c.ServiceClient, c)
	}
	older, _ := internetgateway2.NewWANIPConnection1ClientsFromRootDevice(root, at)
	for _, c := range older {
		add(&c.ServiceClient, c)
	}
	dialled, _ := internetgateway2.NewWANPPPConnection1ClientsFromRootDevice(root, at)
	for _, c := range dialled {
		add(&c.ServiceClient, c)
	}
	return out
}

func (w *upnpWay) protocol() string { return UPnP }

func (w *upnpWay) heard(news, time.Time) bool { return false }

func (w *upnpWay) outside(ctx context.Context) (netip.Addr, error) {
	text, err := w.service.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, upnpError(err)
	}
	if text == "" {
		return netip.IPv4Unspecified(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return netip.Addr{}, refused("its address outside is %.40q", text)
	}
	return a, nil
}

func (w *upnpWay) open(ctx context.Context, port uint16, wanted netip.AddrPort) (mapping, error) {
	address, err := w.outside(ctx)
	if err != nil {
		return mapping{}, err
	}
	external, ok := uint16(0), false
	if s, any := w.service.(anyPort); any && wanted.Port() == 0 { // to renew by it could take a second port
		external, err = s.AddAnyPortMappingCtx(ctx, "", port, "UDP", port, w.link.local.String(), true, "nexd", seconds(wantedLifetime))
		ok = err == nil
	}
	if !ok {
		external = wanted.Port()
		if external == 0 {
			external = port
		}
		if external, err = w.add(ctx, port, external); err != nil {
			return mapping{}, err
		}
	}
	return mapping{external: netip.AddrPortFrom(address, external), lifetime: wantedLifetime}.checked()
}

// add maps the port, to another one outside than external if that is taken.
func (w *upnpWay) add(ctx context.Context, port, external uint16) (uint16, error) {
	lease, again := seconds(wantedLifetime), otherPorts
	for {
		err := w.service.AddPortMappingCtx(ctx, "", external, "UDP", port, w.link.local.String(), true, "nexd", lease)
		switch code := upnpCode(err); {
		case code == upnpPermanent && lease != 0:
			lease = 0
		case code == upnpConflict && again > 0:
			external = uint16(20000 + rand.IntN(40000))
			again--
		default:
			return external, upnpError(err)
		}
	}
}

func (w *upnpWay) close(ctx context.Context, _ uint16, external netip.AddrPort) error {
	return upnpError(w.service.DeletePortMappingCtx(ctx, "", external.Port(), "UDP"))
}

// upnpCode returns the code of a gateway's fault; 0: it is none.
func upnpCode(err error) int {
	var fault *soap.SOAPFaultError
	if !errors.As(err, &fault) {
		return 0
	}
	return fault.Detail.UPnPError.Errorcode
}

// upnpError makes a short error out of a fault: a gateway can put anything in it.
func upnpError(err error) error {
	var fault *soap.SOAPFaultError
	if !errors.As(err, &fault) {
		return err
	}
	e := fault.Detail.UPnPError
	return refused("UPnP error %d %.60q", e.Errorcode, e.ErrorDescription)
}
