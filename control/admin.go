package control

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
)

type (
	regKeyInput   struct{ Body controlapi.RegKeyRequest }
	regKeyOutput  struct{ Body controlapi.RegKeyCreated }
	regKeysOutput struct{ Body controlapi.RegKeyList }
	regKeyPath    struct {
		ID string `path:"id" maxLength:"64"`
	}
)

func (s *Service) createRegKey(ctx context.Context, in *regKeyInput) (*regKeyOutput, error) {
	r := in.Body
	if err := checkTags(r.Tags); err != nil {
		return nil, err
	}
	now := time.Now()
	if r.Role == controlapi.RoleRelay && (r.Ephemeral || r.Reclaim || len(r.Tags) > 0) {
		return nil, invalid("a key for relays makes no devices: leave ephemeral, reclaim and tags out")
	}
	k := store.RegKey{
		ID: store.NewID("key"), Description: printable(r.Description), Role: r.Role, SingleUse: r.SingleUse, Ephemeral: r.Ephemeral,
		Reclaim: r.Reclaim, Tags: canonicalTags(r.Tags), Created: now,
	}
	switch {
	case r.ExpiresIn < 0:
		return nil, invalid("expires_in is negative: want seconds, 0 is never")
	case r.ExpiresIn > math.MaxInt32:
		return nil, invalid("expires_in is more than 68 years: use 0 for never")
	case r.ExpiresIn > 0:
		k.Expires = now.Add(time.Duration(r.ExpiresIn) * time.Second)
	}
	secret := newSecret()
	if err := s.store.CreateRegKey(ctx, s.hub.network.ID, k, store.HashOf(secret)); err != nil {
		return nil, s.internal("create registration key", err)
	}
	s.log.Info("registration key created", logRegKey, k.ID)
	text := controlapi.RegKey{ServiceURL: s.url, Secret: secret, Pin: s.pin()}.String()
	return &regKeyOutput{Body: controlapi.RegKeyCreated{RegKeyInfo: regKeyInfo(k), Key: text}}, nil
}

func (s *Service) listRegKeys(ctx context.Context, _ *struct{}) (*regKeysOutput, error) {
	keys, err := s.store.RegKeys(ctx, s.hub.network.ID)
	if err != nil {
		return nil, s.internal("list registration keys", err)
	}
	out := &regKeysOutput{Body: controlapi.RegKeyList{RegKeys: make([]controlapi.RegKeyInfo, 0, len(keys))}}
	for _, k := range keys {
		out.Body.RegKeys = append(out.Body.RegKeys, regKeyInfo(k))
	}
	return out, nil
}

func (s *Service) deleteRegKey(ctx context.Context, in *regKeyPath) (*struct{}, error) {
	err := s.store.DeleteRegKey(ctx, s.hub.network.ID, in.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, notFound("registration key", in.ID)
	case err != nil:
		return nil, s.internal("delete registration key", err)
	}
	s.log.Info("registration key deleted", logRegKey, in.ID)
	return nil, nil
}

func regKeyInfo(k store.RegKey) controlapi.RegKeyInfo {
	return controlapi.RegKeyInfo{
		ID: k.ID, Description: k.Description, Role: k.Role, SingleUse: k.SingleUse, Ephemeral: k.Ephemeral, Reclaim: k.Reclaim,
		Tags: append([]string{}, k.Tags...), Created: utc(k.Created), Expires: utc(k.Expires), LastUsed: utc(k.LastUsed), Uses: k.Uses,
	}
}

type devicePath struct {
	Device string `path:"device" maxLength:"64" doc:"id or name"`
}
type deviceUpdateInput struct {
	Device string `path:"device" maxLength:"64" doc:"id or name"`
	Body   controlapi.DeviceUpdate
}
type (
	deviceOutput  struct{ Body controlapi.DeviceInfo }
	devicesOutput struct{ Body controlapi.DeviceList }
)

func (s *Service) listDevices(ctx context.Context, _ *struct{}) (*devicesOutput, error) {
	ds, err := s.store.Devices(ctx, s.hub.network.ID)
	if err != nil {
		return nil, s.internal("list devices", err)
	}
	out := &devicesOutput{Body: controlapi.DeviceList{Devices: make([]controlapi.DeviceInfo, 0, len(ds))}}
	for _, d := range ds {
		out.Body.Devices = append(out.Body.Devices, s.deviceInfo(d))
	}
	return out, nil
}

func (s *Service) showDevice(ctx context.Context, in *devicePath) (*deviceOutput, error) {
	d, err := s.store.Device(ctx, s.hub.network.ID, in.Device)
	if err != nil {
		return nil, s.deviceProblem(in.Device, "show device", err)
	}
	return &deviceOutput{Body: s.deviceInfo(d)}, nil
}

func (s *Service) updateDevice(ctx context.Context, in *deviceUpdateInput) (*deviceOutput, error) {
	u := store.Update{Name: in.Body.Name}
	if u.Name != nil {
		if err := controlapi.CheckName(*u.Name); err != nil {
			return nil, problem(http.StatusUnprocessableEntity, controlapi.CodeNameInvalid, err.Error(), "")
		}
	}
	if in.Body.Tags != nil {
		if err := checkTags(*in.Body.Tags); err != nil {
			return nil, err
		}
		tags := canonicalTags(*in.Body.Tags)
		u.Tags = &tags
	}
	d, err := s.store.Device(ctx, s.hub.network.ID, in.Device)
	if err == nil && (u.Name != nil || u.Tags != nil) {
		d, err = s.store.UpdateDevice(ctx, s.hub.network.ID, d.ID, u)
	}
	if err != nil {
		return nil, s.deviceProblem(in.Device, "update device", err)
	}
	s.hub.sync(ctx)
	s.log.Info("device updated", logkey.Device, d.Name, logID, d.ID)
	return &deviceOutput{Body: s.deviceInfo(d)}, nil
}

func (s *Service) deleteDevice(ctx context.Context, in *devicePath) (*struct{}, error) {
	d, _, err := s.store.DeleteDevice(ctx, s.hub.network.ID, in.Device, s.deletion(time.Now()), nil)
	if err != nil {
		return nil, s.deviceProblem(in.Device, "delete device", err)
	}
	s.hub.sync(ctx)
	s.log.Info("device deleted", logkey.Device, d.Name, logID, d.ID, logkey.Reason, "by the administrator")
	return nil, nil
}

func (s *Service) deviceProblem(name, doing string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return notFound("device", name)
	}
	return s.refusal(doing, err)
}

func (s *Service) deviceInfo(d store.Device) controlapi.DeviceInfo {
	connected, last := s.hub.presence(d.ID)
	last = later(last, d.LastSeen)
	if connected {
		last = time.Now()
	}
	return controlapi.DeviceInfo{
		Device: deviceOf(d), Connected: connected, Created: d.Created, LastSeen: utc(last),
		RegKeyID: d.RegKeyID, Version: d.Version, OS: d.OS,
	}
}

// checkTags holds tags to the form of device names, and their number to 32.
func checkTags(tags []string) error {
	const most = 32
	if len(tags) > most {
		return invalid("more than %d tags", most)
	}
	for _, tag := range tags {
		if controlapi.CheckName(tag) != nil {
			return invalid("tag %q: want lower-case letters, digits and inner hyphens, at most 63", clip(tag))
		}
	}
	return nil
}

func canonicalTags(tags []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(tags)))
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Millisecond)
}
