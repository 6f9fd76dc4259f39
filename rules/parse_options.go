package rules

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of option values.
const (
	MaxConns       = 1_000_000
	MinTimeout     = time.Millisecond
	MaxDialTimeout = 10 * time.Minute
	MaxIdleTimeout = 30 * 24 * time.Hour
)

// deviceDomain may follow a device's name in allow; it is left out of the canonical form.
const deviceDomain = ".nexd.internal"

const knownOptions = "known options are allow, proxy-protocol, max-conns, dial-timeout and idle-timeout"

// options reads what is left of the input: nothing, or a comma before each option.
func (p *parser) options(r Rule) (Options, error) {
	var o Options
	seen := make(map[string]bool)
	for p.pos < len(p.input) {
		start := p.pos + 1 // after the comma
		item := p.input[start:]
		if at := strings.IndexByte(item, ','); at >= 0 {
			item = item[:at]
		}
		p.pos = start + len(item)
		name, value, ok := strings.Cut(item, "=")
		valuePos := start + len(name) + 1
		switch {
		case item == "":
			return o, p.fail(start, "write OPTION=VALUE after each comma", "option is missing after the comma")
		case !isOption(name):
			return o, p.fail(start, optionHint(name), "unknown option %q", clip(name, 40))
		case !ok || value == "":
			return o, p.fail(min(valuePos, len(p.input)), "write "+optionForm(name), "option %s has no value", name)
		case seen[name] && name != "allow":
			return o, p.fail(start, "keep one of them", "option %s is given twice", name)
		}
		seen[name] = true
		if err := p.option(&o, r, name, value, valuePos); err != nil {
			return o, err
		}
	}
	slices.SortFunc(o.Allow, Allow.compare)
	o.Allow = slices.Compact(o.Allow)
	return o, nil
}

// option reads one value.
func (p *parser) option(o *Options, r Rule, name, value string, pos int) (err error) {
	switch name {
	case "allow":
		if len(o.Allow) == MaxAllow {
			return p.fail(pos, "allow a range of addresses or a tag", "more than %d allow options", MaxAllow)
		}
		var a Allow
		a, err = p.allow(value, pos)
		o.Allow = append(o.Allow, a)
	case "proxy-protocol":
		o.ProxyProtocol, err = p.proxyProtocol(r, value, pos)
	case "max-conns":
		o.MaxConns, err = p.maxConns(value, pos)
	case "dial-timeout":
		o.DialTimeout, err = p.duration(name, value, pos, MaxDialTimeout)
	case "idle-timeout":
		o.IdleTimeout, err = p.duration(name, value, pos, MaxIdleTimeout)
	}
	return err
}

func (p *parser) allow(value string, pos int) (Allow, error) {
	if value == "*" || strings.EqualFold(value, "any") || strings.EqualFold(value, "all") {
		return Allow{}, p.fail(pos, "leave allow out: then everybody who reaches the port may connect", "allow=%s is not known", value)
	}
	if len(value) >= 4 && strings.EqualFold(value[:4], "tag:") {
		tag := value[4:]
		if !isTag(tag) {
			return Allow{}, p.fail(pos+4, "a tag has letters, digits, dots, hyphens and underscores, at most 63", "%q is not a tag", clip(tag, 40))
		}
		return Allow{Tag: tag}, p.meshOnly("tag", pos)
	}
	if strings.ContainsAny(value, "/:[]%") || isIPv4Text(value) {
		prefix, err := p.prefix(value, pos)
		return Allow{Prefix: prefix}, err
	}
	name := strings.ToLower(value)
	name = strings.TrimSuffix(strings.TrimSuffix(name, "."), deviceDomain)
	if checkLabel(name) != nil || strings.Contains(name, "_") {
		return Allow{}, p.fail(pos, "write the name of a device, tag:NAME, or addresses as 100.64.0.0/10", "allow=%s is neither a device name nor an address", clip(value, 40))
	}
	return Allow{Name: name}, p.meshOnly("device name", pos)
}

// meshOnly refuses names where clients are hosts, not mesh devices.
func (p *parser) meshOnly(what string, pos int) error {
	if p.direction == Ingress {
		return nil
	}
	return p.fail(pos, "write their addresses, as in allow=192.168.1.0/24",
		"a %s in allow: the clients of an egress rule are hosts, not mesh devices", what)
}

// prefix reads a CIDR, or an address that stands for itself alone.
func (p *parser) prefix(value string, pos int) (netip.Prefix, error) {
	var prefix netip.Prefix
	var err error
	if strings.Contains(value, "/") {
		prefix, err = netip.ParsePrefix(value)
	} else {
		var a netip.Addr
		a, err = netip.ParseAddr(value)
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	switch {
	case err != nil || strings.Contains(value, "%"):
		return prefix, p.fail(pos, "write addresses as 100.64.0.0/10 or fd00::/64, without brackets or zone", "allow=%s is not an address or CIDR", clip(value, 60))
	case prefix.Addr().Is4In6():
		return prefix, p.fail(pos, "write it as IPv4", "allow=%s is IPv4 in IPv6 form", clip(value, 60))
	case prefix != prefix.Masked():
		return prefix, p.fail(pos, "write allow="+prefix.Masked().String()+" or allow="+prefix.Addr().String(),
			"allow=%s names one address and a whole range", clip(value, 60))
	}
	return prefix, nil
}

func (p *parser) proxyProtocol(r Rule, value string, pos int) (Version, error) {
	if r.Protocol != TCP {
		return 0, p.fail(pos, "leave it out", "proxy-protocol is for tcp, this rule is %s", r.Protocol)
	}
	switch value {
	case "v1":
		return ProxyV1, nil
	case "v2":
		return ProxyV2, nil
	}
	return 0, p.fail(pos, "write "+optionForm("proxy-protocol"), "proxy-protocol %q is not known", clip(value, 40))
}

func (p *parser) maxConns(value string, pos int) (int, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n < 1 || n > MaxConns || value[0] == '0' {
		return 0, p.fail(pos, "write a whole number from 1 to 1000000, or leave it out", "max-conns %q is out of range or not a number", clip(value, 40))
	}
	return int(n), nil
}

// duration reads a time of at least a millisecond and at most limit.
func (p *parser) duration(name, value string, pos int, limit time.Duration) (time.Duration, error) {
	hint := "write " + optionForm(name)
	d, err := time.ParseDuration(value)
	switch {
	case err != nil && strings.Trim(value, "0123456789") == "":
		return 0, p.fail(pos+len(value), hint, "%s has no unit", name)
	case err != nil:
		return 0, p.fail(pos, hint, "%s %q is not a duration", name, clip(value, 40))
	case d < MinTimeout:
		return 0, p.fail(pos, hint, "%s %s is too short: at least %s", name, clip(value, 40), MinTimeout)
	case d > limit:
		return 0, p.fail(pos, hint, "%s %s is too long: at most %s", name, clip(value, 40), formatDuration(limit))
	}
	return d, nil
}

func isOption(name string) bool { return optionForm(name) != "" }

// optionForm shows how an option is written; it is empty for an unknown one.
func optionForm(name string) string {
	switch name {
	case "allow":
		return "allow=NAME, allow=tag:NAME or allow=CIDR"
	case "proxy-protocol":
		return "proxy-protocol=v1 or proxy-protocol=v2"
	case "max-conns":
		return "max-conns=100"
	case "dial-timeout":
		return "dial-timeout=5s"
	case "idle-timeout":
		return "idle-timeout=1m"
	}
	return ""
}

// optionHint guesses the option meant: another case, underscores, no hyphen.
func optionHint(name string) string {
	plain := func(s string) string { return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s)) }
	for _, known := range []string{"allow", "proxy-protocol", "max-conns", "dial-timeout", "idle-timeout"} {
		if plain(name) == plain(known) {
			return "write " + optionForm(known)
		}
	}
	return knownOptions
}

func isTag(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isNameByte(c) && c != '-' && c != '.' {
			return false
		}
	}
	return true
}
