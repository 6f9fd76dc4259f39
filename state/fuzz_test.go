package state

import (
	"bytes"
	"testing"
)

// FuzzDecode: whatever the file, decode returns an error or content that can
// be written and read again as the same.
func FuzzDecode(f *testing.F) {
	whole, err := encode(Data{PrivateKey: fixedKey(1 << 4), ListenPort: 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(sealed(1, "{}")))
	f.Add([]byte(sealed(2, "{}")))
	f.Add([]byte(sealed(1, `{"map":{"peers":[{"addresses":["::1%z"]}]},"hints":[{"addrs":["[::1]:1"]}]}`)))
	f.Fuzz(func(t *testing.T, b []byte) { checkDecode(t, b) })
}

// FuzzRecord reaches what is behind the checksum.
func FuzzRecord(f *testing.F) {
	f.Add("{}")
	f.Add(`{"private_key":"QEVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX2BhYmM=","listen_port":1,"rules":[{"direction":"ingress","rule":"tcp:1:a:1"}]}`)
	f.Add(`{"map":{"self":{"addresses":["100.64.0.1"]},"network":{"cidrs":["100.64.0.0/10"]}},"hints":[{"peer":"","seen":"2026-01-01T00:00:00Z"}]}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, data string) { checkDecode(t, []byte(sealed(1, data))) })
}

func checkDecode(t *testing.T, b []byte) {
	d, err := decode(b)
	if err != nil {
		return
	}
	first, err := encode(d)
	if err != nil {
		t.Fatalf("decoded, but cannot be encoded: %v", err)
	}
	again, err := decode(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := encode(again)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("came back as\n%s\n%s (%v)", first, second, err)
	}
}
