package rules

import (
	"fmt"
	"strings"
)

// Direction says on which side a rule listens. The zero value is invalid.
type Direction uint8

const (
	Ingress Direction = iota + 1 // listens in the mesh, dials from this host
	Egress                       // listens on this host, dials over the mesh
)

// ParseDirection reads "ingress" or "egress".
func ParseDirection(s string) (Direction, error) {
	switch s {
	case "ingress":
		return Ingress, nil
	case "egress":
		return Egress, nil
	}
	return 0, fmt.Errorf("direction %q: want ingress or egress", clip(s, 32))
}

// String returns "ingress" or "egress".
func (d Direction) String() string {
	switch d {
	case Ingress:
		return "ingress"
	case Egress:
		return "egress"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// MarshalText returns the text of String; the zero value is an error.
func (d Direction) MarshalText() ([]byte, error) {
	if d != Ingress && d != Egress {
		return nil, fmt.Errorf("marshal %v: not a direction", d)
	}
	return []byte(d.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (d *Direction) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDirection(string(text))
	return err
}

// Protocol is the transport of a rule. The zero value is invalid.
type Protocol uint8

const (
	TCP Protocol = iota + 1
	UDP
)

// String returns "tcp" or "udp", as package net names networks.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// parseProtocol takes any case.
func parseProtocol(s string) (Protocol, bool) {
	switch strings.ToLower(s) {
	case "tcp":
		return TCP, true
	case "udp":
		return UDP, true
	}
	return 0, false
}

// Version is the PROXY protocol header sent to a destination.
type Version uint8

const (
	ProxyNone Version = iota // no header
	ProxyV1                  // the text form
	ProxyV2                  // the binary form
)

// String returns "v1", "v2", or "none".
func (v Version) String() string {
	switch v {
	case ProxyNone:
		return "none"
	case ProxyV1:
		return "v1"
	case ProxyV2:
		return "v2"
	}
	return fmt.Sprintf("version(%d)", uint8(v))
}
