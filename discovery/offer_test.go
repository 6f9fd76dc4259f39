package discovery

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"nexd/key"
)

func sampleOffer() offer {
	return offer{
		WantReply: true, NAT: 2, StartDelay: 70 * time.Millisecond, Epoch: 1 << 60, Seq: 3, PeerEpoch: 9,
		Candidates: []candidate{
			{netip.MustParseAddrPort("192.0.2.1:4242"), host, 7},
			{netip.MustParseAddrPort("[2001:db8::1]:4242"), reflexive, 8},
		},
	}
}

func TestOfferRoundTrip(t *testing.T) {
	want := sampleOffer()
	b := want.appendTo([]byte("before"))[len("before"):]
	got, err := parseOffer(append(b, "of a later version"...))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for i := range b {
		if _, err := parseOffer(b[:i]); err == nil {
			t.Errorf("%d of %d bytes are read as an offer", i, len(b))
		}
	}
}

func TestSealIsForOnePeerAndOneDirection(t *testing.T) {
	a, b, c := key.NewPrivate(), key.NewPrivate(), key.NewPrivate()
	pair := func(own, peer key.Private) *secrets {
		s, err := newSecrets(own, own.Public(), peer.Public())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ab, ba, ca := pair(a, b), pair(b, a), pair(c, a)
	if ab.check != ba.check || ab.hintOut != ba.hintIn || ab.hintIn != ba.hintOut || ab.hintIn == ab.hintOut {
		t.Error("the two sides derive different secrets, or one for both directions")
	}
	sealed := ab.seal([]byte("offer"))
	if plain, err := ba.open(sealed); err != nil || string(plain) != "offer" {
		t.Errorf("open: %q, %v", plain, err)
	}
	for name, s := range map[string]*secrets{"itself": ab, "another": ca} {
		if _, err := s.open(sealed); err == nil {
			t.Errorf("opened by %s", name)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := ba.open(changed); err == nil {
			t.Errorf("byte %d changed, and it opens", i)
		}
		if _, err := ba.open(sealed[:i]); err == nil {
			t.Errorf("%d bytes open", i)
		}
	}
}

func TestWindow(t *testing.T) {
	var w window
	for i, x := range []struct {
		epoch, seq uint64
		want       verdict
	}{
		{5, 10, fresh},
		{5, 10, replayed},
		{5, 9, fresh},
		{5, 9, replayed},
		{5, 73, fresh},
		{5, 10, replayed},
		{5, 9, replayed},
		{5, 11, fresh},
		{5, 1 << 40, fresh},
		{5, 73, replayed},
		{4, 1 << 50, stale},
		{6, 1, fresh},
		{6, 0, fresh},
		{6, 1, replayed},
		{5, 1 << 41, stale},
	} {
		if got := w.admit(x.epoch, x.seq); got != x.want {
			t.Errorf("step %d: admit(%d, %d) = %d, want %d", i, x.epoch, x.seq, got, x.want)
		}
	}
}

// FuzzOffer: no panic, bounded, and what is read is written to the same meaning.
func FuzzOffer(f *testing.F) {
	o := sampleOffer()
	f.Add(o.appendTo(nil))
	f.Add((&offer{}).appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOffer(b)
		if err != nil {
			return
		}
		if len(o.Candidates) > maxCandidates {
			t.Fatalf("%d candidates", len(o.Candidates))
		}
		again, err := parseOffer(o.appendTo(nil))
		if err != nil || !reflect.DeepEqual(again, o) {
			t.Fatalf("%+v read again as %+v, %v", o, again, err)
		}
	})
}

// FuzzOpen: what was not sealed for us does not open.
func FuzzOpen(f *testing.F) {
	own, peer := key.NewPrivate(), key.NewPrivate()
	s, err := newSecrets(own, own.Public(), peer.Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.seal([]byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := s.open(b); err == nil {
			t.Fatalf("opened as %x", plain)
		}
	})
}
