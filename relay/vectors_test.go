package relay

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"nexd/key"
	"nexd/test/vectors"
)

// vector is a name and what the code computes for it.
type vector struct {
	name  string
	value []byte
}

// vectorList computes what docs/relay.md shows, from fixed inputs.
func vectorList(t *testing.T) (out []vector) {
	private := func(first byte) key.Private {
		raw := make([]byte, key.Size)
		for i := range raw {
			raw[i] = first + byte(i)
		}
		p, err := key.ParsePrivate(base64.StdEncoding.EncodeToString(raw))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	reveal := func(p key.Private) []byte {
		b, err := hex.DecodeString(p.RevealHex())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	add := func(name string, value []byte) []byte {
		out = append(out, vector{name, value})
		return value
	}
	device, peer, relay := private(0x10), private(0x40), private(0x70)
	service := ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", 32)))
	add("device.private", reveal(device))
	add("device.public", device.Public().Bytes())
	add("relay.private", reveal(relay))
	add("relay.public", relay.Public().Bytes())
	add("peer.public", peer.Public().Bytes())
	add("service.seed", service.Seed())
	add("service.public", service.Public().(ed25519.PublicKey))

	network := NetworkOf("net_1")
	add("network", network[:])
	cred := add("credential", Credential{Device: device.Public(), Network: network, Expires: time.Unix(1_900_000_000, 0)}.Sign(service))
	secret, err := deriveSecret(device, relay.Public())
	if err != nil {
		t.Fatal(err)
	}
	add("secret", secret[:])

	n := nonce{1, 2, 3, 4, 5, 6, 7, 8}
	add("hello", appendHello(nil, n))
	jar := cookies{}
	for i := range jar.key {
		jar.key[i] = byte(0xA0 + i)
	}
	add("cookie.key", jar.key[:])
	k := jar.at(placeOf(netip.MustParseAddrPort("192.0.2.7:51820")), 300)
	add("cookie", k[:])
	add("challenge", challenge{Echo: n, Cookie: k}.appendTo(nil))
	a := auth{Nonce: n, Cookie: k, Epoch: 1_800_000_000_000_000_001, Tag: 0xC11E0001, Credential: cred}
	b := a.appendTo(nil)
	m := prove(secret, macAuth, b)
	add("auth", append(b, m[:]...))
	b = welcome{Nonce: n, Tag: 0x5E551071, Epoch: a.Epoch, Lifetime: time.Hour, Channels: MaxChannels}.appendTo(nil)
	w := prove(secret, macWelcome, m[:], b)
	add("welcome", append(b, w[:]...))
	b = refusal{Reason: RefusedStale, Nonce: n, Value: 1_800_000_000_000_000_009}.appendTo(nil)
	r := prove(secret, macRefuse, b)
	add("refuse", append(b, r[:]...))

	add("open", appendKeyed(nil, header{FrameOpen, 5, 0x5E551071}, peer.Public()))
	add("opened", appendKeyed(nil, header{FrameOpened, 5, 0xC11E0001}, peer.Public()))
	add("data", append(appendHeader(nil, header{FrameData, 5, 0x5E551071}), "sealed"...))
	add("data-key", append(appendKeyed(nil, header{FrameDataKey, 5, 0x5E551071}, peer.Public()), "sealed"...))
	add("ping", appendPing(nil, 0x5E551071, 0x1122334455667788))
	add("pong", appendPong(nil, 0xC11E0001, 0x1122334455667788))
	add("notice", appendNotice(nil, 0xC11E0001, PeerGone, peer.Public()))
	s := session{secret: *secret, tag: 0x5E551071}
	b = appendBye(nil, 0xC11E0001, ByeIdle)
	y := byeMAC(&s, macByeDown, b)
	add("bye.to-client", append(b, y[:]...))
	b = appendBye(nil, 0x5E551071, ByeLeaving)
	y = byeMAC(&s, macByeUp, b)
	add("bye.to-relay", append(b, y[:]...))
	add("message", appendFramed(appendFramed(nil, appendPong(nil, 0xC11E0001, 1), nil), appendHeader(nil, header{FrameData, 5, 0xC11E0001}), []byte("sealed")))
	return out
}

// TestVectors computes what docs/relay.md shows. RELAY_VECTORS=1 prints them.
func TestVectors(t *testing.T) {
	list := vectorList(t)
	if os.Getenv("RELAY_VECTORS") != "" {
		for _, v := range list {
			text := hex.EncodeToString(v.value)
			for i := 0; i < len(text); i += 96 {
				name := ""
				if i == 0 {
					name = v.name
				}
				fmt.Printf("%-15s %s\n", name, text[i:min(i+96, len(text))])
			}
		}
	}
	page, err := os.ReadFile("../docs/relay.md")
	if err != nil {
		t.Fatal(err)
	}
	values, err := vectors.Parse(string(page))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if got := values[v.name]; got != hex.EncodeToString(v.value) {
			t.Errorf("docs/relay.md: %s is %q, the code says\n%x", v.name, got, v.value)
		}
		delete(values, v.name)
	}
	for name := range values {
		t.Errorf("docs/relay.md: nothing computes the vector %s", name)
	}
}

// The documented sizes and numbers are those of the code.
func TestTables(t *testing.T) {
	page, err := os.ReadFile("../docs/relay.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		fmt.Sprintf("| `%#X` | hello | client → relay | %d |", byte(FrameHello), helloSize),
		fmt.Sprintf("| `%#X` | challenge | relay → client | %d |", byte(FrameChallenge), challengeSize),
		fmt.Sprintf("| `%#X` | auth | client → relay | %d |", byte(FrameAuth), authSize),
		fmt.Sprintf("| `%#X` | welcome | relay → client | %d |", byte(FrameWelcome), welcomeSize),
		fmt.Sprintf("| `%#X` | refuse | relay → client | %d |", byte(FrameRefuse), refuseSize),
		fmt.Sprintf("| `%#X` | ping | client → relay | %d |", byte(FramePing), pingSize),
		fmt.Sprintf("| `%#X` | pong | relay → client | %d |", byte(FramePong), pongSize),
		fmt.Sprintf("| `%#X` | open | client → relay | %d |", byte(FrameOpen), openSize),
		fmt.Sprintf("| `%#X` | opened | relay → client | %d |", byte(FrameOpened), openSize),
		fmt.Sprintf("| `%#X` | notice | relay → client | %d |", byte(FrameNotice), noticeSize),
		fmt.Sprintf("| `%#X` | bye | both | %d |", byte(FrameBye), byeSize),
		fmt.Sprintf("| `%#X` | data | both | %d + packet |", byte(FrameData), headerSize),
		fmt.Sprintf("| `%#X` | data-key | both | %d + packet |", byte(FrameDataKey), keyedHeader),
		fmt.Sprintf("%d bytes", MaxPacket), fmt.Sprintf("1 to %d", MaxChannels),
	} {
		if !strings.Contains(string(page), strings.ReplaceAll(line, "0X", "0x")) {
			t.Errorf("docs/relay.md lacks %q", line)
		}
	}
}
