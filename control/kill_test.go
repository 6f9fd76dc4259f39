package control

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// childDir names the state directory of a service run by this test binary.
const childDir = "NEXD_TEST_CONTROL_DIR"

func serveAsChild(dir string) int {
	svc, err := New(testConfig(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		<-svc.Ready()
		fmt.Println(svc.Addr())
	}()
	if err := svc.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Killed in the middle of many joins, a service that comes back knows every
// device it had answered, each once.
func TestKilledWhileDevicesJoin(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	secret := first.regKey(controlapi.RegKeyRequest{})
	if err := first.end(); err != nil {
		t.Fatal(err)
	}

	acknowledged := map[key.Public]device{}
	tried := map[key.Public]string{}
	var mu sync.Mutex
	for round := range 3 {
		quiet, kill := startChild(t, dir)
		enough := make(chan struct{}, 1000)
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					private := key.NewPrivate()
					name := fmt.Sprintf("d%d-%d-%d", round, worker, n)
					mu.Lock()
					tried[private.Public()] = name
					mu.Unlock()
					d, ok := quiet.joinQuietly(private, wish(secret, name))
					if !ok {
						return
					}
					mu.Lock()
					acknowledged[private.Public()] = d
					mu.Unlock()
					select {
					case enough <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 25 {
			select {
			case <-enough:
			case <-time.After(patience):
				t.Fatal("the joins do not go on")
			}
		}
		kill()
		wg.Wait()
		quiet.http.CloseIdleConnections()
	}

	w := start(t, dir)
	var list controlapi.DeviceList
	w.admin("GET", "/v1/devices", nil, &list)
	there := map[key.Public]controlapi.DeviceInfo{}
	addresses := map[string]bool{}
	for _, d := range list.Devices {
		if _, twice := there[d.PublicKey]; twice || addresses[d.Addresses[0].String()] {
			t.Errorf("device %s is there twice", d.Name)
		}
		there[d.PublicKey] = d
		addresses[d.Addresses[0].String()] = true
		if tried[d.PublicKey] != d.Name {
			t.Errorf("device %s never asked", d.Name)
		}
	}
	for k, d := range acknowledged {
		if got, ok := there[k]; !ok || got.ID != d.Device.ID || got.Addresses[0] != d.Device.Addresses[0] {
			t.Errorf("device %s was acknowledged and is lost or changed", d.Device.Name)
		}
	}
	for _, d := range acknowledged {
		w.mustWatch(d, "").expect(controlapi.EventSnapshot) // its credential holds
		break
	}
	t.Logf("%d joins acknowledged, %d devices, %d tried", len(acknowledged), len(there), len(tried))
}

// startChild runs the service as a process that can be killed.
func startChild(t *testing.T, dir string) (quiet *world, kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		child.Process.Kill()
		child.Wait()
	})
	t.Cleanup(kill)
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("the child does not say where it listens")
	}
	// Requests fail when the child dies: the harness must not count that.
	return &world{t: t, base: "https://" + strings.TrimSpace(addr), http: client(t, controlapi.Pin(readAdmin(t, dir).Pin))}, kill
}

// Killed while a device says where it is, the service knows what it had
// acknowledged last, or what came after.
func TestKilledWhileHomesChange(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	a := first.join(wish(first.regKey(controlapi.RegKeyRequest{}), "a"))
	own, other := first.svc.relay.entry.ID, first.joinRelay(relayWish(first.relayRegKey(), "r")).ID
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	choices := [][]string{{own}, {other}, {own, other}, {other, own}}
	var acknowledged, tried []string
	for range 3 {
		quiet, kill := startChild(t, dir)
		for n := 0; ; n++ {
			tried = choices[n%len(choices)]
			if n == 25 {
				go kill() // in the midst of the next ones
			}
			if !quiet.call("PUT", "/v1/self/relays", a.Credential, controlapi.Homes{Relays: tried}, nil) {
				break
			}
			acknowledged = tried
		}
		kill()
		quiet.http.CloseIdleConnections()
		w := start(t, dir)
		var got controlapi.DeviceInfo
		w.admin("GET", "/v1/devices/a", nil, &got)
		if !slices.Equal(got.Relays, acknowledged) && !slices.Equal(got.Relays, tried) {
			t.Errorf("the device is at %v; acknowledged was %v, then came %v", got.Relays, acknowledged, tried)
		}
		if w.svc.relay.entry.ID != own {
			t.Error("the relay has another id")
		}
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
	}
}

// joinQuietly joins with a service that may die at any moment.
func (w *world) joinQuietly(private key.Private, r controlapi.JoinRequest) (device, bool) {
	var c controlapi.Challenge
	if !w.post("/v1/challenge", nil, &c) {
		return device{}, false
	}
	r.PublicKey, r.Token = private.Public(), c.Token
	proof, err := private.Proof(c.ServerKey, controlapi.ProofLabel, r.Transcript())
	if err != nil {
		return device{}, false
	}
	r.Proof = proof[:]
	d := device{private: private}
	return d, w.post("/v1/join", r, &d.JoinResponse)
}

func (w *world) post(path string, in, out any) bool { return w.call("POST", path, "", in, out) }

// call makes a request whose failure is no error of the test's.
func (w *world) call(method, path, token string, in, out any) bool {
	req, err := http.NewRequest(method, w.base+path, jsonBody(in))
	if err != nil {
		return false
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.http.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode < 300 && (out == nil || decode(res.Body, out) == nil)
}
