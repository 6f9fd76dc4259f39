package stunwire

import (
	"bytes"
	"testing"
)

func TestCheckAndAnswers(t *testing.T) {
	check := Check{ID: NewTxID(), Hint: Hint{1, 2, 3, 4, 5, 6, 7, 8}, Priority: 99, Epoch: 1 << 60, Seq: 12}
	packet := AppendCheck([]byte("before"), check, &testKey)[len("before"):]
	if len(packet) != 104 {
		t.Errorf("a check of %d bytes", len(packet))
	}
	m, err := Parse(packet)
	if err != nil {
		t.Fatal(err)
	}
	got := Check{ID: m.ID, Hint: m.Hint, Priority: m.Priority, Epoch: m.Epoch, Seq: m.Seq}
	if m.Class != Request || !m.HasHint || !m.HasSequence || got != check {
		t.Errorf("read %+v, want %+v", got, check)
	}
	if !m.Verify(&testKey) || m.Verify(&otherKey) {
		t.Error("integrity is not bound to the key")
	}

	for _, answer := range [][]byte{
		AppendCheckReply(nil, check.ID, v4, &testKey),
		AppendCheckReply(nil, check.ID, v6, &testKey),
		AppendCheckStale(nil, check.ID, 1<<61, &testKey),
	} {
		if len(answer) > len(packet) {
			t.Errorf("an answer of %d bytes to %d", len(answer), len(packet))
		}
		m, err := Parse(answer)
		if err != nil || m.ID != check.ID || !m.Verify(&testKey) || m.Verify(&otherKey) {
			t.Errorf("answer %+v, %v", m, err)
		}
	}
	if m, _ := Parse(AppendCheckStale(nil, check.ID, 1<<61, &testKey)); m.Code != CodeStale || m.Epoch != 1<<61 {
		t.Errorf("stale: %+v", m)
	}
}

// TestPaddedCheck: any length up to a jumbo frame's, under the integrity; what
// else is longer than other messages is not read.
func TestPaddedCheck(t *testing.T) {
	check := Check{ID: NewTxID(), Hint: Hint{1, 2}, Priority: 7, Epoch: 3, Seq: 4}
	for size, want := range map[int]int{0: MinPadded, MinPadded: MinPadded, 1312: 1312, 1315: 1312, MaxPadded: MaxPadded, MaxPadded + 4: MaxPadded} {
		packet := AppendPaddedCheck(nil, check, size, &testKey)
		if len(packet) != want {
			t.Errorf("%d bytes asked for are %d, want %d", size, len(packet), want)
		}
		m, err := Parse(packet)
		if err != nil || m.Hint != check.Hint || m.Seq != check.Seq || !m.Verify(&testKey) || len(m.Unknown) != 0 {
			t.Errorf("%d bytes: %+v, %v", size, m, err)
		}
		if len(packet) == MinPadded {
			continue
		}
		packet[MinPadded/2+10]++ // in the padding, and the fingerprint made right again
		packet = appendFingerprint(packet[:len(packet)-8], 0)
		if m, err := Parse(packet); err != nil || m.Verify(&testKey) {
			t.Errorf("%d bytes with another padding: %+v, %v", size, m, err)
		}
	}
	long := AppendPaddedCheck(nil, check, 1312, &testKey)
	for name, change := range map[string]func(b []byte){
		"another attribute":         func(b []byte) { b[paddingAt+1]++ },
		"a padding of another size": func(b []byte) { b[paddingAt+3] -= 4 },
		"a response":                func(b []byte) { b[0] = 1 },
	} {
		b := bytes.Clone(long)
		change(b)
		b = appendFingerprint(b[:len(b)-8], 0)
		if _, err := Parse(b); err == nil {
			t.Errorf("%s of %d bytes is read", name, len(b))
		}
	}
	// An older reader knows no padding: within its limits it takes the check as any.
	short := AppendPaddedCheck(nil, check, 512, &testKey)
	short[paddingAt+1]++ // an attribute that nobody knows
	short = appendFingerprint(short[:len(short)-8], 0)
	if m, err := Parse(short); err != nil || len(m.Unknown) != 0 {
		t.Errorf("an unknown attribute that may be ignored: %+v, %v", m, err)
	}
}

// TestTamperedCheck changes every bit of a check in turn.
func TestTamperedCheck(t *testing.T) {
	packet := AppendCheck(nil, Check{ID: NewTxID(), Hint: Hint{9}, Epoch: 5, Seq: 6}, &testKey)
	for i := range packet {
		for bit := range 8 {
			changed := bytes.Clone(packet)
			changed[i] ^= 1 << bit
			if m, err := Parse(changed); err == nil && m.Verify(&testKey) {
				t.Fatalf("bit %d of byte %d changed, and it verifies", bit, i)
			}
		}
		if _, err := Parse(packet[:i]); err == nil {
			t.Fatalf("%d of %d bytes are read as a message", i, len(packet))
		}
	}
}

func TestPlainMessages(t *testing.T) {
	id := NewTxID()
	for _, fingerprint := range []bool{false, true} {
		m, err := Parse(AppendSuccess(nil, id, v6, fingerprint))
		if err != nil || m.Class != Success || m.Mapped != v6 || m.Fingerprint != fingerprint || m.HasIntegrity() {
			t.Errorf("success: %+v, %v", m, err)
		}
		m, err = Parse(AppendError(nil, id, CodeUnknownAttribute, []uint16{3}, fingerprint))
		if err != nil || m.Class != Error || m.Code != 420 {
			t.Errorf("error: %+v, %v", m, err)
		}
	}
	m, err := Parse(AppendRequest(nil, id))
	if err != nil || m.Class != Request || m.ID != id || !m.Fingerprint || m.Verify(&testKey) {
		t.Errorf("request: %+v, %v", m, err)
	}
}

func TestMalformed(t *testing.T) {
	head := func(attrs ...byte) []byte {
		b := []byte{0, 1, 0, byte(len(attrs)), 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
		return append(b, attrs...)
	}
	mac := make([]byte, 36)
	mac[1], mac[3] = 0x1c, 32
	tooMany := bytes.Repeat([]byte{0x80, 0x22, 0, 0}, MaxAttributes+1)
	for name, b := range map[string][]byte{
		"empty":                 {},
		"header alone cut":      head()[:19],
		"attribute cut":         head(0, 0x24, 0, 8, 1, 2, 3, 4),
		"priority of 8":         head(0, 0x24, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8),
		"address without bytes": head(0, 0x20, 0, 0),
		"address of family 3":   head(0, 0x20, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0),
		"IPv6 address of 4":     head(0, 0x20, 0, 8, 0, 2, 0, 0, 0, 0, 0, 0),
		"truncated integrity":   head(0, 0x1c, 0, 4, 1, 2, 3, 4),
		"after the integrity":   head(append(bytes.Clone(mac), 0, 0x24, 0, 4, 0, 0, 0, 1)...),
		"wrong fingerprint":     head(0x80, 0x28, 0, 4, 0, 0, 0, 0),
		"error class 9":         head(0, 9, 0, 4, 0, 0, 9, 0),
		"too many attributes":   head(tooMany...),
		"an indication":         append([]byte{0, 0x11}, head()[2:]...),
	} {
		if m, err := Parse(b); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
	if m, err := Parse(head(0, 3, 0, 4, 0, 0, 0, 6)); err != nil || len(m.Unknown) != 1 || m.Unknown[0] != 3 {
		t.Errorf("CHANGE-REQUEST: %+v, %v", m, err)
	}
}

// FuzzParse: nothing panics, and what is read as a check, a reply or a plain
// success is written again to the same meaning.
func FuzzParse(f *testing.F) {
	for _, sample := range []string{sampleRequest, sampleIPv4, sampleIPv6} {
		f.Add(unhex(f, sample))
	}
	f.Add(AppendCheck(nil, Check{Hint: Hint{1}, Priority: 2, Epoch: 3, Seq: 4}, &testKey))
	f.Add(AppendPaddedCheck(nil, Check{Hint: Hint{1}, Priority: 2, Epoch: 3, Seq: 4}, 1312, &testKey))
	f.Add(AppendCheckReply(nil, TxID{1}, v4, &testKey))
	f.Add(AppendCheckStale(nil, TxID{1}, 77, &testKey))
	f.Add(AppendError(nil, TxID{1}, 420, []uint16{3, 4, 5}, true))
	f.Fuzz(func(t *testing.T, packet []byte) {
		before := bytes.Clone(packet)
		m, err := Parse(packet)
		if !bytes.Equal(before, packet) {
			t.Fatal("Parse changed the packet")
		}
		if err != nil {
			return
		}
		m.Verify(&testKey)
		if !bytes.Equal(before, packet) {
			t.Fatal("Verify changed the packet")
		}
		switch {
		case m.Class == Request && m.HasHint && m.HasSequence:
			c := Check{ID: m.ID, Hint: m.Hint, Priority: m.Priority, Epoch: m.Epoch, Seq: m.Seq}
			again, err := Parse(AppendCheck(nil, c, &testKey))
			if err != nil || again.Hint != m.Hint || again.Seq != m.Seq || again.Epoch != m.Epoch || again.Priority != m.Priority || !again.Verify(&testKey) {
				t.Fatalf("%+v read again as %+v, %v", m, again, err)
			}
		case m.Class == Success && m.Mapped.IsValid():
			again, err := Parse(AppendSuccess(nil, m.ID, m.Mapped, true))
			if err != nil || again.Mapped != m.Mapped {
				t.Fatalf("%+v read again as %+v, %v", m, again, err)
			}
		case m.Class == Error:
			again, err := Parse(AppendError(nil, m.ID, m.Code, m.Unknown, false))
			if m.Code != 0 && (err != nil || again.Code != m.Code) {
				t.Fatalf("%+v read again as %+v, %v", m, again, err)
			}
		}
	})
}
