package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// resolved loads the settings of nexd proxy from a command line, an environment
// and a config file.
func resolved(t *testing.T, args []string, env map[string]string, config string) (*proxySettings, error) {
	t.Helper()
	lookup := func(name string) string { return env[name] }
	if config != "" {
		path := filepath.Join(t.TempDir(), "nexd.yaml")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	p := newProxySettings(lookup)
	fs := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	p.register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return p, p.load(places{uid: 1000, env: lookup})
}

func TestTheStrongerPlaceWins(t *testing.T) {
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte("  from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	home := map[string]string{"HOME": dir}
	with := func(pairs ...string) map[string]string {
		env := map[string]string{"HOME": dir}
		for i := 0; i < len(pairs); i += 2 {
			env[pairs[i]] = pairs[i+1]
		}
		return env
	}
	for _, tt := range []struct {
		name   string
		args   string
		env    map[string]string
		config string
		get    func(*proxySettings) string
		want   string
		source string // of which setting: NAME=SOURCE
	}{
		{"default", "", home, "", func(p *proxySettings) string { return p.node.DrainTimeout.String() }, "10s", "drain-timeout=default"},
		{"config over default", "", home, "drain-timeout: 1s", func(p *proxySettings) string { return p.node.DrainTimeout.String() }, "1s", ""},
		{"environment over config", "", with("NEXD_DRAIN_TIMEOUT", "2s"), "drain-timeout: 1s", func(p *proxySettings) string { return p.node.DrainTimeout.String() }, "2s", "drain-timeout=NEXD_DRAIN_TIMEOUT"},
		{"flag over environment", "--drain-timeout 3s", with("NEXD_DRAIN_TIMEOUT", "2s"), "drain-timeout: 1s", func(p *proxySettings) string { return p.node.DrainTimeout.String() }, "3s", "drain-timeout=--drain-timeout"},
		{"last flag", "--hostname a --hostname b", home, "", func(p *proxySettings) string { return p.node.Hostname }, "b", ""},
		{"name of request-ip", "", with("NEXD_REQUESTED_IP", "100.64.0.9"), "", func(p *proxySettings) string { return p.node.RequestIP.String() }, "100.64.0.9", "request-ip=NEXD_REQUESTED_IP"},
		{"switch in the environment", "", with("NEXD_EPHEMERAL", "yes"), "", func(p *proxySettings) string { return yesNo(p.node.Ephemeral) }, "yes", ""},
		{"switch taken back", "--ephemeral=false", with("NEXD_EPHEMERAL", "1"), "", func(p *proxySettings) string { return yesNo(p.node.Ephemeral) }, "no", ""},
		{"secret from a file", "--reg-key-file " + keyFile, home, "", func(p *proxySettings) string { return p.node.RegKey }, "from-file", "reg-key-file=--reg-key-file"},
		{"secret file in the environment", "", with("NEXD_REG_KEY_FILE", keyFile), "", func(p *proxySettings) string { return p.node.RegKey }, "from-file", "reg-key-file=NEXD_REG_KEY_FILE"},
		{"secret flag over its file in the environment", "--reg-key K", with("NEXD_REG_KEY_FILE", "/no/such"), "", func(p *proxySettings) string { return p.node.RegKey }, "K", "reg-key=--reg-key"},
		{"secret file flag over the environment", "--reg-key-file " + keyFile, with("NEXD_REG_KEY", "K"), "", func(p *proxySettings) string { return p.node.RegKey }, "from-file", ""},
		{"rules separated by spaces", "", with("NEXD_EGRESS", " tcp:1:a:1  tcp:2:a:2 "), "", rulesOf, "egress tcp:1:a:1 egress tcp:2:a:2", ""},
		{"rules of one direction replace, the other stays", "--ingress tcp:1:a:1", with("NEXD_EGRESS", "tcp:2:a:2"), "ingress: [\"tcp:3:a:3\"]", rulesOf, "ingress tcp:1:a:1 egress tcp:2:a:2", ""},
		{"empty variable is none", "", with("NEXD_HOSTNAME", ""), "hostname: h", func(p *proxySettings) string { return p.node.Hostname }, "h", ""},
		{"state directory", "", home, "", func(p *proxySettings) string { return p.node.StateDir }, dir + "/.local/state/nexd", "state-dir=default"},
		{"no state directory when ephemeral", "--ephemeral", map[string]string{}, "", func(p *proxySettings) string { return p.node.StateDir + p.node.UnixSocket }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := resolved(t, strings.Fields(tt.args), tt.env, tt.config)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.get(p); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if name, source, ok := strings.Cut(tt.source, "="); ok {
				for _, e := range p.effective() {
					if e.Name == name && e.Source != source {
						t.Errorf("%s is from %q, want %q", name, e.Source, source)
					}
				}
			}
		})
	}
}

func rulesOf(p *proxySettings) string {
	var texts []string
	for _, s := range p.node.Rules {
		texts = append(texts, s.Direction().String(), s.String())
	}
	return strings.Join(texts, " ")
}

func TestSecretsAreNotShown(t *testing.T) {
	p, err := resolved(t, []string{"--reg-key", "https://h:1#SECRET"}, map[string]string{"HOME": t.TempDir()}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.effective() {
		if strings.Contains(e.Value, "SECRET") {
			t.Errorf("%+v", e)
		}
	}
}

func TestNoStateDirectoryToGuess(t *testing.T) {
	_, err := resolved(t, nil, nil, "")
	if e := explain(err); e == nil || e.Code != exitUsage || !strings.Contains(e.Message, "--state-dir") {
		t.Errorf("got %v", err)
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": " \n", "large": strings.Repeat("x", maxSecret+1)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSecret(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzConfig reads anything as a config file: an error or settings, never a panic.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"", "mtu: 1280", "ingress:\n  - tcp:1:a:1\n", "a: &x 1\nb: *x", "{mtu: 1}", "---\n---\n", "- a", "mtu: |\n  12\n", "? a\n: b", "<<: {}", "mtu: !!int 3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := newProxySettings(func(string) string { return "" })
		file, err := p.parseConfig("f.yaml", text)
		if err != nil {
			if e := explain(err); e.Code != exitUsage || e.Message == "" {
				t.Errorf("%+v", e)
			}
			return
		}
		for key := range file.entries {
			if p.byName[key] == nil {
				t.Errorf("unknown key %q was taken", key)
			}
		}
	})
}
