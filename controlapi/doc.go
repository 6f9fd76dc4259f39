// Package controlapi is the language spoken with the control service: the
// messages of its HTTPS API, version 1. It holds no logic beyond parsing,
// printing and validating them.
//
//   - [RegKey] is what an administrator hands to a device.
//   - [Challenge], [JoinRequest], [JoinResponse]: how a device becomes a member.
//   - [Device], [Network], [Map], [Event]: what a member is told, and keeps being told.
//   - [Signal]: what one member has the service pass to another.
//   - [Relay], [RelayList], [Homes]: what a member is told of relays, and tells.
//   - [RelayJoinRequest], [RelayHeartbeat]: how a stand-alone relay comes to be
//     and stays one of the service's.
//   - [Problem]: how a request is refused.
//   - [RegKeyInfo], [DeviceInfo], ...: what an administrator sees.
//   - [Health]: what /healthz and /readyz answer.
//
// Paths, all below the service's URL:
//
//	POST   /v1/challenge          -> Challenge                 anyone
//	POST   /v1/join               JoinRequest -> JoinResponse  anyone
//	GET    /v1/watch?epoch=&since= -> Event per line           device
//	POST   /v1/signals            Signal -> SignalResult       device
//	PUT    /v1/self/relays        Homes                        device
//	DELETE /v1/self                                            device
//	GET    /v1/relay              WebSocket of the relay       relay credential
//	POST   /v1/relays             RelayJoinRequest -> RelayJoinResponse       anyone
//	PUT    /v1/relays/self        RelayHeartbeat -> RelayHeartbeatAnswer      relay
//	GET    /v1/relays             -> RelayInfoList             admin
//	DELETE /v1/relays/{relay}                                  admin
//	POST   /v1/reg-keys           RegKeyRequest -> RegKeyCreated  admin
//	GET    /v1/reg-keys           -> RegKeyList                admin
//	DELETE /v1/reg-keys/{id}                                   admin
//	GET    /v1/devices            -> DeviceList                admin
//	GET    /v1/devices/{device}   -> DeviceInfo                admin
//	PATCH  /v1/devices/{device}   DeviceUpdate -> DeviceInfo   admin
//	DELETE /v1/devices/{device}                                admin
//	GET    /healthz, /readyz -> Health                         anyone
//	GET    /metrics, /openapi.json                             anyone
//
// {device} and {relay} are an id or a name. Devices, relays and administrators
// authenticate with "Authorization: Bearer TOKEN". Times are RFC 3339 in UTC.
package controlapi
