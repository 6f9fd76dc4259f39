package controlapi

import "time"

// RegKeyRequest asks for a registration key.
type RegKeyRequest struct {
	Description string   `json:"description,omitempty" maxLength:"256"`
	Role        string   `json:"role,omitempty" enum:",relay" doc:"what joins with it: devices, or stand-alone relays"`
	SingleUse   bool     `json:"single_use,omitempty"`
	Ephemeral   bool     `json:"ephemeral,omitempty" doc:"devices that join with it are ephemeral"`
	Reclaim     bool     `json:"reclaim,omitempty" doc:"may take the name and addresses of a device that is not connected"`
	Tags        []string `json:"tags,omitempty" maxItems:"32"`
	// ExpiresIn is in seconds; 0 is never.
	ExpiresIn int64 `json:"expires_in,omitempty" minimum:"0" doc:"seconds; 0 is never"`
}

// RegKeyInfo describes a key without its secret.
type RegKeyInfo struct {
	ID          string    `json:"id"`
	Description string    `json:"description,omitempty"`
	Role        string    `json:"role,omitempty"`
	SingleUse   bool      `json:"single_use"`
	Ephemeral   bool      `json:"ephemeral"`
	Reclaim     bool      `json:"reclaim"`
	Tags        []string  `json:"tags"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires,omitzero"`
	LastUsed    time.Time `json:"last_used,omitzero"`
	Uses        int       `json:"uses"`
}

// RegKeyCreated carries the whole key, this once.
type RegKeyCreated struct {
	RegKeyInfo
	Key string `json:"key" doc:"service URL, #, secret and certificate pin"`
}

// RegKeyList lists the keys of the network.
type RegKeyList struct {
	RegKeys []RegKeyInfo `json:"reg_keys"`
}

// DeviceInfo is a device as an administrator sees it.
type DeviceInfo struct {
	Device
	Connected bool      `json:"connected" doc:"has a watch stream now"`
	Created   time.Time `json:"created"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	RegKeyID  string    `json:"reg_key_id,omitempty"`
	Version   string    `json:"version,omitempty"`
	OS        string    `json:"os,omitempty"`
}

// DeviceList lists the devices of the network.
type DeviceList struct {
	Devices []DeviceInfo `json:"devices"`
}

// DeviceUpdate changes what is set.
type DeviceUpdate struct {
	Name *string   `json:"name,omitempty" maxLength:"63"`
	Tags *[]string `json:"tags,omitempty" maxItems:"32"`
}

// AdminFile is STATE/admin.json, written by the service at its first start.
type AdminFile struct {
	URL   string `json:"url"`
	Token string `json:"token"`
	Pin   string `json:"pin,omitempty"`
}
