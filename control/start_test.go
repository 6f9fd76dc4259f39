package control

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What keeps the service from starting says what to do, and a file that cannot
// be used is kept as it is.
func TestStartErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer takenUDP.Close()
	garbage := strings.Repeat("no database\n", 1000)
	put := func(t *testing.T, cfg *Config, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(cfg.StateDir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*testing.T, *Config)
		want   string
		hint   string
		wrong  bool
	}{
		{"port in use", func(_ *testing.T, c *Config) { c.Listen = taken.Addr().String() }, "--listen", "another port", false},
		{"STUN port in use", func(_ *testing.T, c *Config) { c.STUNListen = takenUDP.LocalAddr().String() }, "--stun-listen", "another port", false},
		{"not an address of this machine", func(_ *testing.T, c *Config) { c.Listen = "192.0.2.254:0" }, "no address 192.0.2.254", "for all of them", false},
		{"no certificate file", func(_ *testing.T, c *Config) { c.TLSCert, c.TLSKey = "/no/such.pem", "/no/such.key" }, "/no/such.pem", "PEM chain", true},
		{"not a certificate", func(t *testing.T, c *Config) {
			put(t, c, "x.pem", "x")
			c.TLSCert, c.TLSKey = filepath.Join(c.StateDir, "x.pem"), filepath.Join(c.StateDir, "x.pem")
		}, "--tls-cert", "PEM chain", true},
		{"not a database", func(t *testing.T, c *Config) { put(t, c, databaseFile, garbage) }, databaseFile, "restore it from a backup", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			tc.change(t, &cfg)
			svc, err := New(cfg)
			if err == nil {
				svc.Close()
				t.Fatal("it starts")
			}
			var hinted interface{ Hint() string }
			if !errors.As(err, &hinted) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hinted.Hint(), tc.hint) {
				t.Errorf("got %v (%+v)", err, hinted)
			}
			var e *StartError
			if wrong := errors.As(err, &e) && e.Wrong; wrong != tc.wrong {
				t.Errorf("%v: the request was wrong: %v", err, wrong)
			}
			if _, err := os.Stat(filepath.Join(cfg.StateDir, adminFile)); err == nil {
				t.Error("an admin file was made")
			}
			if got, err := os.ReadFile(filepath.Join(cfg.StateDir, databaseFile)); err == nil && string(got) != garbage {
				t.Error("the database was made or changed")
			}
		})
	}
}

// A given certificate that devices will refuse is served all the same, something
// in front may show another, but the log says so.
func TestGivenCertificateWarnings(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name     string
		from, to time.Duration
		host     string
		want     string
	}{
		{"good", -time.Hour, time.Hour, "mesh.example.com", ""},
		{"over", -2 * time.Hour, -time.Hour, "mesh.example.com", "is over"},
		{"not yet", time.Hour, 2 * time.Hour, "mesh.example.com", "not valid yet"},
		{"another name", -time.Hour, time.Hour, "other.example.com", "not for the host"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := testConfig(dir)
			cfg.TLSCert, cfg.TLSKey = writeCertificate(t, dir, "mesh.example.com", now.Add(tc.from), now.Add(tc.to))
			cfg.PublicURL = "https://" + tc.host
			var log bytes.Buffer
			cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
			svc, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer svc.Close()
			if got := log.String(); (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("log %q, want %q", got, tc.want)
			}
		})
	}
}

// writeCertificate makes a self-signed certificate and returns its two files.
func writeCertificate(t *testing.T, dir, name string, from, to time.Time) (cert, private string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, private = filepath.Join(dir, "given.crt"), filepath.Join(dir, "given.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, private: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, private
}
