//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nexd/test/lab"
	"nexd/test/need"
	"nexd/test/netns"
)

func TestParseSites(t *testing.T) {
	s, err := parseSite("home=cgnat,nodes=2,lan=192.168.1.0/24,v6=fw,hairpin,natpmp,orefresh,inner=symmetric,via=isp")
	o := s.options
	if err != nil || s.kind != lab.CGNAT || s.via != "isp" || o.Name != "home" || o.Nodes != 2 || o.V6 != lab.FirewalledV6 ||
		o.LAN.String() != "192.168.1.0/24" || !o.Hairpin || !o.PortMapping || !o.OutboundRefresh || o.Inner != lab.Symmetric {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := parseSite("isp=carrier:full-cone"); err != nil || !s.carrier || s.kind != lab.FullCone {
		t.Errorf("%+v, %v", s, err)
	}
	for _, wrong := range []string{"", "a", "=fw", "a=round", "a=fw,", "a=fw,nodes=0", "a=fw,lan=10.0.0.0/8", "a=fw,v6=maybe", "a=fw,inner=x"} {
		if s, err := parseSite(wrong); err == nil {
			t.Errorf("%q: %+v", wrong, s)
		}
	}
	if all, err := parseSites([]string{"all"}); err != nil || len(all) != len(lab.Kinds()) {
		t.Errorf("all: %d sites, %v", len(all), err)
	}
}

// A whole session: what works, what does not, and nothing left behind.
func TestSession(t *testing.T) {
	if os.Geteuid() != 0 {
		need.Missing(t, "root: network namespaces cannot be made without it")
	}
	need.Programs(t, "ip", "nft")
	in := strings.NewReader(`help
nat a1
pair a1 b1
roam a
block a nowhere
nat
dance
latency b 5ms 0s 0%
exec b1 sh -c echo$IFS"from_b1"
move b1 a
quit
`)
	var out bytes.Buffer
	if err := run([]string{"a=full-cone,nodes=1", "b=port-restricted"}, in, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		`a +full-cone +198\.18\.1\.2 a1=192\.168\.101\.10`,
		`a1 mapping=independent filtering=independent ports=preserved`,
		`direct after`,
		`a +full-cone +198\.18\.1\.3 a1=`,
		`error: no site "nowhere"`,
		`error: usage: nat NODE`,
		`error: no command "dance"`,
		`from_b1`,
		`b1=192\.168\.101\.11`,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	prefix := regexp.MustCompile(`ip netns exec (\S+)-NODE`).FindStringSubmatch(out.String())
	if prefix == nil {
		t.Fatalf("no prefix in\n%s", out.String())
	}
	if left, _ := filepath.Glob(filepath.Join(netns.Dir, prefix[1]+"-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	out.Reset()
	if err := run([]string{"a=full-cone,via=b"}, strings.NewReader(""), &out); err == nil {
		t.Error("a site via one that is not there")
	}
}
