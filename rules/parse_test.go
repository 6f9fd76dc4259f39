package rules

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// goodRules lists texts and their canonical form, "" where it is the text itself.
var goodRules = []struct {
	direction Direction
	text      string
	canonical string
}{
	{Ingress, "tcp:443:127.0.0.1:8080", ""},
	{Ingress, "tcp:80:127.0.0.1:8080", ""},
	{Egress, "tcp:5432:100.64.0.2:5432", ""},
	{Egress, "tcp:5432:db:5432", ""},
	{Egress, "tcp:5432:db.nexd.internal:5432", ""},
	{Egress, "TCP:5432:DB:5432", "tcp:5432:db:5432"},
	{Ingress, "uDp:53:[::1]:53", "udp:53:[::1]:53"},
	{Ingress, "udp:53:[0:0:0:0:0:0:0:1]:53", "udp:53:[::1]:53"},
	{Ingress, "tcp:80:[FD00::A]:80", "tcp:80:[fd00::a]:80"},
	{Ingress, "tcp:1:web_1:65535", ""},
	{Ingress, "tcp:80:example.com.:80", ""},
	{Ingress, "tcp:80:xn--bcher-kva.example:80", ""},
	{Ingress, "tcp:80:3com.example:80", ""},
	{Ingress, "tcp:80:unix:80", ""}, // a host of that name
	{Ingress, "tcp:80:localhost:80", ""},
	{Ingress, "tcp:100.64.0.1:80:127.0.0.1:80", ""},
	{Ingress, "tcp:[fd00::1]:80:127.0.0.1:80", ""},
	{Egress, "tcp:0.0.0.0:80:web:80", ""},
	{Egress, "tcp:[::]:80:web:80", ""},
	{Egress, "tcp:[::1]:80:[fd00::2]:80", ""},
	{Egress, "tcp:192.168.1.5:80:web:80", ""},
	{Ingress, "tcp:8000-8010:127.0.0.1:9000-9010", ""},
	{Ingress, "udp:8000-8000:127.0.0.1:80", "udp:8000:127.0.0.1:80"},
	{Ingress, "tcp:8000:127.0.0.1:80-80", "tcp:8000:127.0.0.1:80"},
	{Ingress, "tcp:64512-65535:h:64512-65535", ""},
	{Ingress, "tcp:80:unix:/run/app.sock", ""},
	{Ingress, "tcp:80:UNIX:/run/App.sock", "tcp:80:unix:/run/App.sock"},
	{Ingress, "tcp:80:unix:/run/a:80", ""},
	{Ingress, "tcp:80:unix:/run/über.sock,max-conns=1", ""},
	{Ingress, "tcp:80:h:80,allow=db", ""},
	{Ingress, "tcp:80:h:80,allow=DB.nexd.internal", "tcp:80:h:80,allow=db"},
	{Ingress, "tcp:80:h:80,allow=tag:Web.1_x", ""},
	{Ingress, "tcp:80:h:80,allow=TAG:web", "tcp:80:h:80,allow=tag:web"},
	{Ingress, "tcp:80:h:80,allow=100.64.0.0/10", ""},
	{Ingress, "tcp:80:h:80,allow=100.64.0.2", "tcp:80:h:80,allow=100.64.0.2/32"},
	{Ingress, "tcp:80:h:80,allow=fd00::/64", ""},
	{Ingress, "tcp:80:h:80,allow=fd00::7", "tcp:80:h:80,allow=fd00::7/128"},
	{Ingress, "tcp:80:h:80,allow=0.0.0.0/0,allow=::/0", ""},
	{Ingress, "tcp:80:h:80,allow=b,allow=tag:t,allow=a,allow=10.0.0.0/8,allow=a", "tcp:80:h:80,allow=10.0.0.0/8,allow=a,allow=b,allow=tag:t"},
	{Egress, "tcp:80:h:80,allow=192.168.1.0/24", ""},
	{Ingress, "tcp:80:h:80,proxy-protocol=v1", ""},
	{Egress, "tcp:80:h:80,proxy-protocol=v2", ""},
	{Ingress, "udp:80:h:80,max-conns=1000000", ""},
	{Ingress, "tcp:80:h:80,dial-timeout=5s,idle-timeout=60s", "tcp:80:h:80,dial-timeout=5s,idle-timeout=1m"},
	{Ingress, "tcp:80:h:80,idle-timeout=90m", "tcp:80:h:80,idle-timeout=1h30m"},
	{Ingress, "tcp:80:h:80,idle-timeout=720h", ""},
	{Ingress, "tcp:80:h:80,idle-timeout=1h0m10s", ""},
	{Ingress, "tcp:80:h:80,idle-timeout=1500ms", "tcp:80:h:80,idle-timeout=1.5s"},
	{Ingress, "tcp:80:h:80,dial-timeout=1ms", ""},
	{
		Ingress, "TCP:80:H:80,idle-timeout=1m,dial-timeout=2s,max-conns=3,proxy-protocol=v2,allow=a",
		"tcp:80:h:80,allow=a,proxy-protocol=v2,max-conns=3,dial-timeout=2s,idle-timeout=1m",
	},
}

func TestParsePrintsTheCanonicalForm(t *testing.T) {
	for _, tt := range goodRules {
		spec, err := Parse(tt.direction, tt.text)
		if err != nil {
			t.Errorf("%s %s: %v", tt.direction, tt.text, err)
			continue
		}
		want := tt.canonical
		if want == "" {
			want = tt.text
		}
		if got := spec.String(); got != want {
			t.Errorf("%s: got %s, want %s", tt.text, got, want)
		}
		checkRoundTrip(t, spec)
	}
}

// checkRoundTrip holds for every spec that Parse returns.
func checkRoundTrip(t *testing.T, spec Spec) {
	t.Helper()
	text := spec.String()
	again, err := Parse(spec.Direction(), text)
	if err != nil {
		t.Fatalf("canonical form %s does not parse: %v", text, err)
	}
	if !again.Equal(spec) || again.String() != text {
		t.Fatalf("%s came back as %s", text, again)
	}
	rules := spec.Rules()
	if len(rules) != spec.Len() || len(rules) == 0 {
		t.Fatalf("%s: %d rules, Len %d", text, len(rules), spec.Len())
	}
	for _, r := range []Rule{rules[0], rules[len(rules)-1]} {
		if err := r.Validate(); err != nil {
			t.Fatalf("%s: its rule %s: %v", text, r, err)
		}
	}
}

func TestParseFillsEveryField(t *testing.T) {
	spec, err := Parse(Ingress, "udp:[fd00::1]:53-54:10.0.0.1:153-154,allow=tag:dns,max-conns=9,dial-timeout=1s,idle-timeout=30s")
	if err != nil {
		t.Fatal(err)
	}
	want := Rule{
		Direction: Ingress, Protocol: UDP, Bind: netip.MustParseAddr("fd00::1"), Port: 54,
		Target: Target{Addr: netip.MustParseAddr("10.0.0.1"), Port: 154},
		Options: Options{
			Allow: []Allow{{Tag: "dns"}}, MaxConns: 9,
			DialTimeout: time.Second, IdleTimeout: 30 * time.Second,
		},
	}
	rules := spec.Rules()
	if len(rules) != 2 || !rules[1].Equal(want) {
		t.Fatalf("got %+v, want the second to be %+v", rules, want)
	}
	if got := rules[1].String(); got != "udp:[fd00::1]:54:10.0.0.1:154,allow=tag:dns,max-conns=9,dial-timeout=1s,idle-timeout=30s" {
		t.Errorf("the rule of one port prints as %s", got)
	}
	if ap, ok := rules[0].Target.AddrPort(); !ok || ap != netip.MustParseAddrPort("10.0.0.1:153") {
		t.Errorf("AddrPort: %v %v", ap, ok)
	}
	if got := rules[0].Target.String(); got != "10.0.0.1:153" {
		t.Errorf("target: %s", got)
	}
}

func TestParseListReadsTheEnvironmentForm(t *testing.T) {
	specs, err := ParseList(Egress, " tcp:1:a:1\n\ttcp:2:b:2  udp:3-4:c:3-4 ")
	if err != nil || len(specs) != 3 || specs[2].String() != "udp:3-4:c:3-4" {
		t.Fatalf("got %v, %v", specs, err)
	}
	if specs, err := ParseList(Egress, " \t"); err != nil || len(specs) != 0 {
		t.Errorf("nothing: got %v, %v", specs, err)
	}
	_, err = ParseList(Egress, "tcp:1:a:1 tcp:0:b:2")
	var wrong *Error
	if !errors.As(err, &wrong) || wrong.Input != "tcp:0:b:2" || wrong.Pos != 4 {
		t.Errorf("error of the second rule: %#v", err)
	}
}

func TestDirectionText(t *testing.T) {
	for _, d := range []Direction{Ingress, Egress} {
		text, err := d.MarshalText()
		var back Direction
		if err != nil || back.UnmarshalText(text) != nil || back != d {
			t.Errorf("%v came back as %v", d, back)
		}
	}
	if _, err := Direction(0).MarshalText(); err == nil {
		t.Error("the zero direction was marshalled")
	}
	if _, err := ParseDirection("Ingress"); err == nil || !strings.Contains(err.Error(), "want ingress or egress") {
		t.Errorf("Ingress: %v", err)
	}
}

func TestValidateRefusesHandMadeRules(t *testing.T) {
	good := Rule{Direction: Ingress, Protocol: TCP, Port: 80, Target: Target{Host: "web", Port: 80}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(*Rule){
		"direction":          func(r *Rule) { r.Direction = 0 },
		"protocol":           func(r *Rule) { r.Protocol = 0 },
		"port":               func(r *Rule) { r.Port = 0 },
		"target":             func(r *Rule) { r.Target = Target{} },
		"upper case":         func(r *Rule) { r.Target.Host = "Web" },
		"injected option":    func(r *Rule) { r.Target = Target{Unix: "/x,max-conns=1"} },
		"two kinds of host":  func(r *Rule) { r.Target.Addr = netip.MustParseAddr("10.0.0.1") },
		"unsorted allow":     func(r *Rule) { r.Options.Allow = []Allow{{Name: "b"}, {Name: "a"}} },
		"negative max-conns": func(r *Rule) { r.Options.MaxConns = -1 },
		"negative timeout":   func(r *Rule) { r.Options.DialTimeout = -1 },
	}
	for name, spoil := range bad {
		r := good
		spoil(&r)
		var wrong *Error
		if err := r.Validate(); !errors.As(err, &wrong) {
			t.Errorf("%s: %s passes (%v)", name, r, err)
		}
	}
}
