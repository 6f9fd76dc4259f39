//go:build linux

package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"nexd/localapi"
	"nexd/test/netns"
)

// lookLimit bounds one question to a daemon, whatever state it is in.
const lookLimit = 5 * time.Second

// Look is Status without nexctl between: cheap enough to be asked many times a
// second.
func (p *Proxy) Look() (localapi.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	return localapi.NewClient(p.Socket()).Status(ctx)
}

// Peer is what the daemon says of one peer.
func (p *Proxy) Peer(name string) (localapi.PeerStatus, error) {
	st, err := p.Look()
	if err != nil {
		return localapi.PeerStatus{}, err
	}
	for _, q := range st.Peers {
		if q.Name == name {
			return q, nil
		}
	}
	return localapi.PeerStatus{}, fmt.Errorf("%s: no peer %s", p.Name, name)
}

// Metrics returns what a daemon that was started with --ops-listen ADDR:PORT
// counts: the values by name, with labels as they are written.
func (p *Proxy) Metrics(addr string) (map[string]float64, error) {
	client := &http.Client{Timeout: lookLimit, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return netns.Inside(p.Node.Host, func() (net.Conn, error) { return net.DialTimeout(network, addr, lookLimit) })
		},
	}}
	resp, err := client.Get("http://" + addr + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of %s: %s", p.Name, resp.Status)
	}
	return parseMetrics(resp.Body)
}

// parseMetrics reads the text format of Prometheus: NAME{LABELS} VALUE.
func parseMetrics(r io.Reader) (map[string]float64, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", line, err)
		}
		values[line[:i]] = v
	}
	return values, lines.Err()
}
