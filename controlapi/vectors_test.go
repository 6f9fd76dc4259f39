package controlapi_test

import (
	"encoding/base64"
	"testing"

	"nexd/controlapi"
	"nexd/key"
	"nexd/test/vectors"
)

// vectorKey is device "a" or "b" of docs/protocol.md.
func vectorKey(t *testing.T, page *vectors.Page, name string) key.Private {
	t.Helper()
	p, err := key.ParsePrivate(base64.StdEncoding.EncodeToString(page.Bytes("key." + name + ".private")))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestVectors computes what docs/protocol.md shows of the API's messages.
func TestVectors(t *testing.T) {
	page := vectors.Open(t, "api")
	device, service := vectorKey(t, page, "a"), vectorKey(t, page, "b")

	pin := controlapi.PinOf(page.Bytes("api.spki"))
	page.IsText("api.pin", string(pin))
	k, err := controlapi.ParseRegKey(page.String("api.reg-key"))
	if err != nil {
		t.Fatal(err)
	}
	if k.Pin != pin {
		t.Errorf("the registration key's pin is %s", k.Pin)
	}
	page.IsText("api.reg-key", k.String())

	var challenge controlapi.Challenge
	page.JSON("api.challenge", &challenge)
	if challenge.ServerKey != service.Public() {
		t.Error("the challenge is not of device b")
	}
	var join controlapi.JoinRequest
	page.JSON("api.join-request", &join)
	if join.PublicKey != device.Public() || join.RegKey != k.Secret || join.Token != challenge.Token {
		t.Error("the join request does not belong to the key, the registration key and the challenge")
	}
	page.Is("api.transcript", join.Transcript())
	secret, err := device.Derive(challenge.ServerKey, controlapi.ProofLabel)
	if err != nil {
		t.Fatal(err)
	}
	page.Is("api.secret", secret[:])
	proof, err := device.Proof(challenge.ServerKey, controlapi.ProofLabel, join.Transcript())
	if err != nil {
		t.Fatal(err)
	}
	page.Is("api.proof", proof[:])
	if !service.VerifyProof(join.PublicKey, controlapi.ProofLabel, join.Transcript(), join.Proof) {
		t.Errorf("the proof in the join request is wrong: want %s", base64.StdEncoding.EncodeToString(proof[:]))
	}
	page.JSON("api.join-response", &controlapi.JoinResponse{})
	var relay controlapi.RelayJoinRequest
	page.JSON("api.relay-join-request", &relay)
	if relay.PublicKey != device.Public() || relay.RegKey != k.Secret || relay.Token != challenge.Token {
		t.Error("the relay's join request does not belong to the key, the registration key and the challenge")
	}
	page.Is("api.relay-transcript", relay.Transcript())
	if proof, err = device.Proof(challenge.ServerKey, controlapi.RelayProofLabel, relay.Transcript()); err != nil {
		t.Fatal(err)
	}
	page.Is("api.relay-proof", proof[:])
	if !service.VerifyProof(relay.PublicKey, controlapi.RelayProofLabel, relay.Transcript(), relay.Proof) {
		t.Errorf("the proof in the relay's join request is wrong: want %s", base64.StdEncoding.EncodeToString(proof[:]))
	}
	page.JSON("api.relay-join-response", &controlapi.RelayJoinResponse{})
	page.JSON("api.relay-heartbeat", &controlapi.RelayHeartbeat{})
	page.JSON("api.relay-heartbeat-answer", &controlapi.RelayHeartbeatAnswer{})
	page.JSON("api.homes", &controlapi.Homes{})
	page.JSON("api.problem", &controlapi.Problem{})
	page.JSON("api.signal", &controlapi.Signal{})
	page.JSON("api.signal-result", &controlapi.SignalResult{})
	for _, kind := range []controlapi.EventType{
		controlapi.EventSnapshot, controlapi.EventDelta, controlapi.EventHeartbeat, controlapi.EventSignal,
		controlapi.EventRelays, controlapi.EventBye,
	} {
		var ev controlapi.Event
		if page.JSON("api.event-"+string(kind), &ev); ev.Type != kind {
			t.Errorf("the event %s is of type %s", kind, ev.Type)
		}
	}
	page.JSON("api.admin-file", &controlapi.AdminFile{})
}
