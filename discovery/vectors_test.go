package discovery

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"nexd/key"
	"nexd/test/vectors"
)

func vectorSecrets(t *testing.T, page *vectors.Page) (a, b *secrets, root [32]byte) {
	t.Helper()
	private := func(name string) key.Private {
		p, err := key.ParsePrivate(base64.StdEncoding.EncodeToString(page.Bytes("key." + name + ".private")))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	pa, pb := private("a"), private("b")
	root, err := pa.Derive(pb.Public(), secretLabel)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = newSecrets(pa, pa.Public(), pb.Public()); err != nil {
		t.Fatal(err)
	}
	if b, err = newSecrets(pb, pb.Public(), pa.Public()); err != nil {
		t.Fatal(err)
	}
	return a, b, root
}

// TestVectorsOfThePair computes what docs/protocol.md shows of a pair's secrets.
func TestVectorsOfThePair(t *testing.T) {
	page := vectors.Open(t, "pair")
	a, b, root := vectorSecrets(t, page)
	page.Is("pair.root", root[:])
	page.Is("pair.check", a.check[:])
	page.Is("pair.check", b.check[:])
	page.Is("pair.hint.ab", a.hintOut[:])
	page.Is("pair.hint.ba", b.hintOut[:])
	page.Is("pair.seal.ab", a.sealOut[:])
	page.Is("pair.seal.ba", b.sealOut[:])
	page.IsText("stun.priority", strconv.FormatUint(uint64(prflx.priority(0)), 10))
	if a.hintOut != b.hintIn || a.sealOut != b.sealIn || a.hintIn != b.hintOut || a.sealIn != b.sealOut {
		t.Error("what one side sends is not what the other expects")
	}
}

// TestVectorsOfAnOffer reads, writes, seals and opens the offer in docs/protocol.md.
func TestVectorsOfAnOffer(t *testing.T) {
	page := vectors.Open(t, "offer")
	a, b, _ := vectorSecrets(t, page)
	plain := page.Bytes("offer.plain")
	o, err := parseOffer(plain)
	if err != nil {
		t.Fatal(err)
	}
	page.Is("offer.plain", o.appendTo(nil))
	page.IsText("offer.reply-wanted", strconv.FormatBool(o.WantReply))
	page.IsText("offer.nat", strconv.Itoa(int(o.NAT)))
	page.IsText("offer.delay", o.StartDelay.String())
	page.IsText("offer.epochs", fmt.Sprintf("%d %d %d", o.Epoch, o.Seq, o.PeerEpoch))
	var candidates []string
	for _, c := range o.Candidates {
		candidates = append(candidates, fmt.Sprintf("%s %s %d", c.Kind, c.Addr, c.Priority))
	}
	page.IsText("offer.candidates", strings.Join(candidates, ", "))

	nonce := page.Bytes("offer.nonce")
	head := append([]byte{sealVersion}, nonce...)
	page.Is("offer.sealed", newAEAD(&a.sealOut).Seal(head, nonce, plain, head[:1]))
	opened, err := b.open(page.Bytes("offer.sealed"))
	if err != nil || string(opened) != string(plain) {
		t.Errorf("opened %x, %v", opened, err)
	}
	if _, err := a.open(page.Bytes("offer.sealed")); err == nil {
		t.Error("the sender opens its own offer: the directions share a key")
	}
}
