package controlclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"

	"nexd/controlapi"
)

// adminRetries is small: a person waits for the answer.
const adminRetries = 3

// Admin is what an administrator asks of the service. It is safe for
// concurrent use.
type Admin struct {
	client *Client
	token  string
}

// NewAdmin returns a client for the service file describes. Of cfg, CAFile,
// Insecure and Log count; URL and pin are the file's. It makes no connection.
func NewAdmin(file controlapi.AdminFile, cfg Config) (*Admin, error) {
	if file.Token == "" {
		return nil, errors.New("admin file has no token")
	}
	cfg.ServiceURL, cfg.Pin = file.URL, controlapi.Pin(file.Pin)
	c, err := New(cfg)
	if err != nil {
		return nil, fmt.Errorf("admin file: %w", err)
	}
	return &Admin{client: c, token: file.Token}, nil
}

// ReadAdminFile reads STATE/admin.json.
func ReadAdminFile(path string) (controlapi.AdminFile, error) {
	var file controlapi.AdminFile
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return file, fmt.Errorf("admin file %s does not exist: `nexd serve` writes it to its state directory at its first start", path)
	case errors.Is(err, fs.ErrPermission):
		return file, fmt.Errorf("admin file %s is not readable: use the account that runs `nexd serve`, or a copy", path)
	case err != nil:
		return file, fmt.Errorf("admin file: %w", err)
	}
	if err := json.Unmarshal(b, &file); err != nil || file.URL == "" || file.Token == "" {
		return file, fmt.Errorf("admin file %s: want JSON with url and token, as `nexd serve` writes it", path)
	}
	return file, nil
}

// Close drops idle connections.
func (a *Admin) Close() { a.client.Close() }

// URL returns the service's URL.
func (a *Admin) URL() string { return a.client.URL() }

// CreateRegKey makes a registration key. The answer alone holds its secret.
func (a *Admin) CreateRegKey(ctx context.Context, req controlapi.RegKeyRequest) (controlapi.RegKeyCreated, error) {
	var out controlapi.RegKeyCreated
	err := a.do(ctx, "create registration key", call{method: http.MethodPost, path: "/v1/reg-keys", in: req, out: &out})
	return out, err
}

// RegKeys lists the registration keys.
func (a *Admin) RegKeys(ctx context.Context) ([]controlapi.RegKeyInfo, error) {
	var out controlapi.RegKeyList
	err := a.do(ctx, "list registration keys", call{method: http.MethodGet, path: "/v1/reg-keys", out: &out, limit: listLimit, repeatable: true})
	return out.RegKeys, err
}

// DeleteRegKey makes a key useless; devices that joined with it stay.
func (a *Admin) DeleteRegKey(ctx context.Context, id string) error {
	return a.one(ctx, "delete registration key", "/v1/reg-keys/", id, call{method: http.MethodDelete})
}

// Devices lists the devices.
func (a *Admin) Devices(ctx context.Context) ([]controlapi.DeviceInfo, error) {
	var out controlapi.DeviceList
	err := a.do(ctx, "list devices", call{method: http.MethodGet, path: "/v1/devices", out: &out, limit: listLimit, repeatable: true})
	return out.Devices, err
}

// Device returns one device, by id or name.
func (a *Admin) Device(ctx context.Context, ref string) (controlapi.DeviceInfo, error) {
	var out controlapi.DeviceInfo
	err := a.one(ctx, "show device", "/v1/devices/", ref, call{method: http.MethodGet, out: &out})
	return out, err
}

// UpdateDevice changes what is set in change and returns the result.
func (a *Admin) UpdateDevice(ctx context.Context, ref string, change controlapi.DeviceUpdate) (controlapi.DeviceInfo, error) {
	var out controlapi.DeviceInfo
	err := a.one(ctx, "update device", "/v1/devices/", ref, call{method: http.MethodPatch, in: change, out: &out})
	return out, err
}

// DeleteDevice removes a device and voids its credential.
func (a *Admin) DeleteDevice(ctx context.Context, ref string) error {
	return a.one(ctx, "delete device", "/v1/devices/", ref, call{method: http.MethodDelete})
}

// Relays lists the relays: the service's own and those that joined.
func (a *Admin) Relays(ctx context.Context) ([]controlapi.RelayInfo, error) {
	var out controlapi.RelayInfoList
	err := a.do(ctx, "list relays", call{method: http.MethodGet, path: "/v1/relays", out: &out, limit: listLimit, repeatable: true})
	return out.Relays, err
}

// DeleteRelay removes a stand-alone relay, by id or name, and voids its credential.
func (a *Admin) DeleteRelay(ctx context.Context, ref string) error {
	return a.one(ctx, "delete relay", "/v1/relays/", ref, call{method: http.MethodDelete})
}

func (a *Admin) do(ctx context.Context, verb string, k call) error {
	k.token, k.retries = a.token, adminRetries
	if err := a.client.do(ctx, k); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// one carries out k on the resource ref below path.
func (a *Admin) one(ctx context.Context, verb, path, ref string, k call) error {
	if ref == "" || ref == "." || ref == ".." { // as a path these name something else
		return fmt.Errorf("%s: %q is not a name or id", verb, ref)
	}
	k.path, k.repeatable = path+url.PathEscape(ref), true
	return a.do(ctx, verb, k)
}
