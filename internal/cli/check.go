package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nexd/proxy"
	"nexd/rules"
)

// checkReport is the document of nexd proxy --check.
type checkReport struct {
	OK       bool          `json:"ok"`
	Settings []Effective   `json:"settings"`
	Service  *checkService `json:"service,omitempty"`
	Rules    []checkRule   `json:"rules"`
}

// checkService is the attempt to reach the control service.
type checkService struct {
	URL   string `json:"url"`
	Error string `json:"error"`
}

// checkRule is what was found for one rule. A part that happens in the mesh can
// only be tried by a running node: it is not counted against the rule.
type checkRule struct {
	Direction string `json:"direction"`
	Rule      string `json:"rule"`
	OK        bool   `json:"ok"`
	Listen    string `json:"listen"`
	Dial      string `json:"dial"`
}

const inMesh = "in the mesh, when running"

// checkTimeout bounds the whole check.
const checkTimeout = time.Minute

// checkProxy tries everything on this host's side once and prints what it
// found. It keeps nothing open, joins nothing and writes nothing.
func (a *app) checkProxy(ctx context.Context, p *proxySettings) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	report := checkReport{OK: true, Settings: p.effective(), Rules: []checkRule{}}
	report.Service = probeService(ctx, &p.node)
	bad := 0
	if report.Service != nil && report.Service.Error != "" {
		bad++
	}
	for _, r := range checkRules(ctx, p.node.Rules) {
		report.Rules = append(report.Rules, r)
		if !r.OK {
			bad++
		}
	}
	report.OK = bad == 0
	if err := a.print(p.output, report, func(t *tables) { showCheck(t, report) }); err != nil {
		return err
	}
	if !report.OK {
		return failed("the table says why", "%d of the things tried do not work now", bad)
	}
	return nil
}

// checkRules asks an engine that is in no mesh.
func checkRules(ctx context.Context, specs []rules.Spec) []checkRule {
	var all []rules.Rule
	for _, s := range specs {
		all = append(all, s.Rules()...)
	}
	engine := proxy.New(proxy.Config{Mesh: noMesh{}, Directory: noDirectory{}})
	out := make([]checkRule, 0, len(all))
	for _, r := range engine.Check(ctx, all) {
		c := checkRule{Direction: r.Rule.Direction.String(), Rule: r.Rule.String(), OK: true, Listen: inMesh, Dial: inMesh}
		if r.Rule.Direction == rules.Egress {
			c.Listen = describeListen(r)
			c.OK = r.Listen == nil
		} else {
			c.Dial = describeDial(r)
			c.OK = r.Dial == nil
		}
		out = append(out, c)
	}
	return out
}

func describeListen(r proxy.CheckResult) string {
	if r.Listen != nil {
		return r.Listen.Error()
	}
	at := slices.SortedFunc(slices.Values(r.Listening), netip.AddrPort.Compare)
	texts := make([]string, len(at))
	for i, a := range at {
		texts[i] = a.String()
	}
	return "ok: " + strings.Join(texts, ", ")
}

func describeDial(r proxy.CheckResult) string {
	switch {
	case r.Dial != nil:
		return r.Dial.Error()
	case len(r.Resolved) > 0:
		return "ok: " + addresses(r.Resolved)
	}
	return "ok"
}

func showCheck(t *tables, report checkReport) {
	rows := make([][]string, 0, len(report.Settings))
	for _, e := range report.Settings {
		rows = append(rows, []string{e.Name, e.Value, e.Source})
	}
	t.table([]string{"SETTING", "VALUE", "FROM"}, rows)
	if s := report.Service; s != nil {
		fmt.Fprintln(t)
		result := "ok"
		if s.Error != "" {
			result = s.Error
		}
		t.table([]string{"SERVICE", "RESULT"}, [][]string{{s.URL, result}})
	}
	if len(report.Rules) == 0 {
		return
	}
	fmt.Fprintln(t)
	rows = nil
	for _, r := range report.Rules {
		rows = append(rows, []string{r.Direction, r.Rule, yesNo(r.OK), r.Listen, r.Dial})
	}
	t.table([]string{"DIRECTION", "RULE", "OK", "LISTEN", "DIAL"}, rows)
}

// noMesh is the mesh of a node that has not joined.
type noMesh struct{}

var errNoMesh = errors.New("not joined")

func (noMesh) ListenTCP(netip.AddrPort) (net.Listener, error)            { return nil, errNoMesh }
func (noMesh) ListenUDP(netip.AddrPort) (net.PacketConn, error)          { return nil, errNoMesh }
func (noMesh) DialTCP(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errNoMesh }
func (noMesh) DialUDP(netip.AddrPort) (net.Conn, error)                  { return nil, errNoMesh }

// noDirectory knows no member.
type noDirectory struct{}

func (noDirectory) Addresses() []netip.Addr                 { return nil }
func (noDirectory) Resolve(string) []netip.Addr             { return nil }
func (noDirectory) Who(netip.Addr) (string, []string, bool) { return "", nil, false }

var (
	_ proxy.Mesh      = noMesh{}
	_ proxy.Directory = noDirectory{}
)
