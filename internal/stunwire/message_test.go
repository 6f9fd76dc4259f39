package stunwire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The samples of RFC 5769, which RFC 8489 keeps.
const (
	sampleRequest = `00010058 2112a442 b7e7a701bc34d686fa87dfae
		80220010 5354554e207465737420636c69656e74
		00240004 6e0001ff 80290008 932ff9b151263b36
		00060009 6576746a3a68367659202020
		00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
		80280004 e57a3bcf`
	sampleIPv4 = `0101003c 2112a442 b7e7a701bc34d686fa87dfae
		8022000b 7465737420766563746f7220
		00200008 0001a147e112a643
		00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
		80280004 c07d4c96`
	sampleIPv6 = `01010048 2112a442 b7e7a701bc34d686fa87dfae
		8022000b 7465737420766563746f7220
		00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
		00080014 a382954e4be67bf11784c97c8292c275bfe3ed41
		80280004 c8fb0b4c`
)

func TestSamplesOfRFC5769(t *testing.T) {
	m, err := Parse(unhex(t, sampleRequest))
	if err != nil || m.Class != Request || m.Priority != 0x6e0001ff || !m.Fingerprint || m.HasHint {
		t.Fatalf("request: %+v, %v", m, err)
	}
	for sample, want := range map[string]string{
		sampleIPv4: "192.0.2.1:32853",
		sampleIPv6: "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
	} {
		m, err := Parse(unhex(t, sample))
		if err != nil || m.Class != Success || !m.Fingerprint || m.Mapped != netip.MustParseAddrPort(want) {
			t.Errorf("response: %+v, %v; want %s", m, err, want)
		}
	}
}

// TestSampleOfRFC8489 is appendix B.1 as corrected by erratum 6268.
func TestSampleOfRFC8489(t *testing.T) {
	packet := unhex(t, `00010090 2112a442 78ad3433c6ad72c029da412e
		001e0020 4a3cf38fef6992bda952c67804 17da0f2481941556 9e60b205c46e41407f1704
		00150029 6f624d61744a6f7332414141 43662f2f3439396b39353464364f4c33346f4c39465354767936347341 000000
		0014000b 6578616d706c652e6f726700
		001d0004 00020000
		001c0020 b5c7bf005b6c52a21c51c5e892f81924 136296cb927c43149309278cc6518e65`)
	m, err := Parse(packet)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Unknown) != 0 {
		t.Errorf("unknown attributes %x", m.Unknown)
	}
	// RFC 8489 section 9.2.2: SHA-256 of user, realm and password.
	key := sha256.Sum256([]byte("\u30DE\u30C8\u30EA\u30C3\u30AF\u30B9:example.org:TheMatrIX"))
	if !m.verify(key[:]) {
		t.Error("the sample's MESSAGE-INTEGRITY-SHA256 does not verify")
	}
}

var (
	testKey  = [KeySize]byte(bytes.Repeat([]byte{7}, KeySize))
	otherKey = [KeySize]byte(bytes.Repeat([]byte{8}, KeySize))
	v4       = netip.MustParseAddrPort("192.0.2.7:4242")
	v6       = netip.MustParseAddrPort("[2001:db8::7]:4242")
)
