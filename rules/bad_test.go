package rules

import (
	"errors"
	"strings"
	"testing"
)

// badRules: at is the text from the wrong place on; problem and hint are parts of the messages.
var badRules = []struct {
	direction         Direction
	text, at          string
	problem, hint     string
	positionIsWhole   bool
	suggestionCorrect bool // "write RULE" in the hint must itself parse
}{
	// Missing parts.
	{direction: Ingress, text: "", at: "", problem: "rule is empty", hint: "as in tcp:443:127.0.0.1:8080"},
	{direction: Egress, text: "", at: "", problem: "rule is empty", hint: "as in tcp:5432:db:5432"},
	{direction: Ingress, text: "tcp", at: "", problem: "port and destination are missing", hint: "PROTO:[BIND:]PORT:HOST:PORT"},
	{direction: Ingress, text: "tcp,max-conns=5", at: ",max-conns=5", problem: "port and destination are missing"},
	{direction: Ingress, text: "tcp:", at: "", problem: "port to listen on is missing"},
	{direction: Ingress, text: "tcp::h:80", at: ":h:80", problem: "port to listen on is missing"},
	{direction: Ingress, text: "tcp:80", at: "", problem: "destination is missing"},
	{direction: Ingress, text: "tcp:80:", at: "", problem: "destination is missing"},
	{direction: Ingress, text: "tcp:80:,max-conns=1", at: ",max-conns=1", problem: "destination is missing"},
	{direction: Ingress, text: "tcp:80:8080", at: "8080", problem: `destination host is missing before "8080"`},
	{direction: Ingress, text: "tcp:80::8080", at: ":8080", problem: "destination host is missing", hint: "write tcp:80:127.0.0.1:8080", suggestionCorrect: true},
	{direction: Egress, text: "tcp:80::8080", at: ":8080", problem: "destination host is missing", hint: "write tcp:80:db:8080", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:127.0.0.1", at: "", problem: "destination port is missing"},
	{direction: Ingress, text: "tcp:80:127.0.0.1:", at: "", problem: "destination port is missing"},
	{direction: Ingress, text: "tcp:80:[::1]", at: "", problem: "destination port is missing"},
	{direction: Ingress, text: "tcp:100.64.0.1", at: "", problem: "port and destination are missing"},
	{direction: Ingress, text: "tcp:[fd00::1]", at: "", problem: "port and destination are missing"},
	{direction: Ingress, text: ":80:127.0.0.1:80", at: ":80:127", problem: "protocol is missing", hint: "write tcp:80:127.0.0.1:80", suggestionCorrect: true},
	{direction: Ingress, text: "8080:127.0.0.1:80", at: "8080:", problem: "protocol is missing", hint: "write tcp:8080:127.0.0.1:80", suggestionCorrect: true},
	{direction: Egress, text: "[::1]:80:db:80", at: "[::1]", problem: "protocol is missing", hint: "write tcp:[::1]:80:db:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:h:80:90", at: ":90", problem: `":90" is too much`},

	// Protocol.
	{direction: Ingress, text: "http:80:127.0.0.1:80", at: "http:", problem: `unknown protocol "http"`, hint: "write tcp:80:127.0.0.1:80", suggestionCorrect: true},
	{direction: Ingress, text: "sctp:80:h:80", at: "sctp", problem: "tcp and udp are known"},
	{direction: Ingress, text: "tcp6:80:h:80", at: "tcp6", problem: `unknown protocol "tcp6"`},
	{direction: Ingress, text: "--ingress", at: "--ingress", problem: "a flag stands where a rule belongs"},

	// Ports.
	{direction: Ingress, text: "tcp:0:h:80", at: "0:h", problem: "port 0 cannot be used", hint: "1 to 65535"},
	{direction: Ingress, text: "tcp:00:h:80", at: "00:h", problem: "port 0 cannot be used"},
	{direction: Ingress, text: "tcp:80:h:0", at: "0", problem: "port 0 cannot be used"},
	{direction: Ingress, text: "tcp:65536:h:80", at: "65536", problem: "port 65536 is too large", hint: "1 to 65535"},
	{direction: Ingress, text: "tcp:80:h:99999999999999999999", at: "999", problem: "is too large"},
	{direction: Ingress, text: "tcp:-1:h:80", at: "-1", problem: `port "-1" is negative`},
	{direction: Ingress, text: "tcp:80:h:-1", at: "-1", problem: `port "-1" is negative`},
	{direction: Ingress, text: "tcp:abc:h:80", at: "abc", problem: `"abc" stands where the port`},
	{direction: Ingress, text: "tcp:80:h:abc", at: "abc", problem: `port "abc" is not a number`},
	{direction: Ingress, text: "tcp:80:h:http", at: "http", problem: `port "http" is not a number`},
	{direction: Ingress, text: "tcp:080:h:80", at: "080", problem: `port "080" has a leading zero`, hint: "write tcp:80:h:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:h:+80", at: "+80", problem: `port "+80" is not a number`},
	{direction: Ingress, text: "tcp:0x50:h:80", at: "0x50", problem: `"0x50" stands where the port`},
	{direction: Ingress, text: "tcp:80:h:８０", at: "８０", problem: "is not a number"},

	// Ranges.
	{direction: Ingress, text: "tcp:8010-8000:h:9000-9010", at: "8010", problem: "range 8010-8000 is reversed", hint: "write 8000-8010"},
	{direction: Ingress, text: "tcp:8000-8010:h:9010-9000", at: "9010", problem: "range 9010-9000 is reversed"},
	{direction: Ingress, text: "tcp:8000-8010:h:9000-9009", at: "9000", problem: "the destination has 10 ports, the listener 11 ports", hint: "pair up"},
	{direction: Ingress, text: "tcp:8000-8010:h:9000", at: "9000", problem: "the destination has 1 port,"},
	{direction: Ingress, text: "tcp:8000:h:9000-9001", at: "9000", problem: "the listener 1 port"},
	{direction: Ingress, text: "tcp:1-1025:h:1-1025", at: "1-1025:h", problem: "range 1-1025 has 1025 ports", hint: "at most 1024"},
	{direction: Ingress, text: "tcp:1-65535:h:1-65535", at: "1-65535:h", problem: "65535 ports", hint: "split it"},
	{direction: Ingress, text: "tcp:80-:h:80", at: ":h:80", problem: `range "80-" has no end`, hint: "8000-8010"},
	{direction: Ingress, text: "tcp:80-81-82:h:80-82", at: "81-82:h", problem: `port "81-82" is not a number`},
	{direction: Ingress, text: "tcp:0-10:h:0-10", at: "0-10:h", problem: "port 0 cannot be used"},
	{direction: Ingress, text: "tcp:65530-65536:h:1-7", at: "65536", problem: "is too large"},

	// IPv6, brackets and zones.
	{direction: Ingress, text: "tcp:80:::1:8080", at: "::1:8080", problem: "IPv6 address without brackets", hint: "write tcp:80:[::1]:8080", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:fd00::1", at: "fd00::1", problem: "IPv6 address without brackets", hint: "[fd00::1]"},
	{direction: Egress, text: "tcp:::1:80:db:80", at: "::1:80", problem: "IPv6 address without brackets", hint: "write tcp:[::1]:80:db:80", suggestionCorrect: true},
	{direction: Egress, text: "tcp:2001:db8::1:80:db:80", at: "2001:", problem: "IPv6 address without brackets", hint: "write tcp:[2001:db8::1]:80:db:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:1:2:3:4:5:6:7:8:80", at: "1:2:3", problem: "IPv6 address without brackets", hint: "write tcp:80:[1:2:3:4:5:6:7:8]:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:[fe80::1%eth0]:80", at: "%eth0", problem: "zones are not supported"},
	{direction: Ingress, text: "tcp:[fe80::1%1]:80:h:80", at: "%1", problem: "zones are not supported"},
	{direction: Ingress, text: "tcp:80:[fe80::1]:80", at: "[fe80", problem: "is link-local"},
	{direction: Ingress, text: "tcp:80:[::1:8080", at: "[::1", problem: "bracket is not closed"},
	{direction: Ingress, text: "tcp:80:[::1]8080", at: "8080", problem: "a colon and the destination port belong after [::1]"},
	{direction: Ingress, text: "tcp:[fd00::1]80:h:80", at: "80:h", problem: "a colon belongs after [fd00::1]"},
	{direction: Ingress, text: "tcp:80:[127.0.0.1]:80", at: "[127", problem: "brackets are for IPv6", hint: "write tcp:80:127.0.0.1:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:[::ffff:10.0.0.1]:80", at: "[::ffff", problem: "IPv4 address in IPv6 form", hint: "write tcp:80:10.0.0.1:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:[db]:80", at: "[db]", problem: `"db" is not an IPv6 address`},
	{direction: Ingress, text: "tcp:80:[]:80", at: "[]", problem: `"" is not an IPv6 address`},

	// Hosts.
	{direction: Ingress, text: "tcp:80:256.1.1.1:80", at: "256", problem: `"256.1.1.1" is not an IPv4 address`},
	{direction: Ingress, text: "tcp:80:1.2.3:80", at: "1.2.3", problem: "is not an IPv4 address"},
	{direction: Ingress, text: "tcp:80:127.0.0.01:80", at: "127", problem: "is not an IPv4 address", hint: "without leading zeros"},
	{direction: Ingress, text: "tcp:80:a..b:80", at: "a..b", problem: "empty part between its dots"},
	{direction: Ingress, text: "tcp:80:.:80", at: ".:80", problem: "is not an IPv4 address"},
	{direction: Ingress, text: "tcp:80:-a:80", at: "-a", problem: "hyphen at the start or end"},
	{direction: Ingress, text: "tcp:80:a-.b:80", at: "a-.b", problem: "hyphen at the start or end"},
	{direction: Ingress, text: "tcp:80:a/b:80", at: "a/b", problem: "holds the character '/'"},
	{direction: Ingress, text: "tcp:80:user@host:80", at: "user", problem: "holds the character '@'"},
	{direction: Ingress, text: "tcp:80:*:80", at: "*", problem: "holds the character '*'"},
	{direction: Ingress, text: "tcp:80:bücher.example:80", at: "bücher", problem: "is not in ASCII", hint: "xn--"},
	{direction: Ingress, text: "tcp:80:web.42:80", at: "web.42", problem: "ends in a number"},
	{direction: Ingress, text: "tcp:80:" + strings.Repeat("a", 64) + ":80", at: "aaa", problem: "more than 63 characters"},
	{direction: Ingress, text: "tcp:80:" + strings.Repeat("a.", 127) + "a:80", at: "a.a.", problem: "longer than 253"},
	{direction: Ingress, text: "tcp:80:http://127.0.0.1:8080", at: "http:", problem: "a URL stands where HOST:PORT belongs", hint: "write tcp:80:127.0.0.1:8080", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:0.0.0.0:80", at: "0.0.0.0", problem: "0.0.0.0 is not an address to connect to", hint: "write tcp:80:127.0.0.1:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:[::]:80", at: "[::]", problem: "not an address to connect to", hint: "write tcp:80:[::1]:80", suggestionCorrect: true},
	{direction: Ingress, text: "udp:80:224.0.0.1:80", at: "224", problem: "not an address to connect to"},
	{direction: Ingress, text: "udp:80:255.255.255.255:80", at: "255", problem: "not an address to connect to"},
	{direction: Egress, text: "tcp:80:127.0.0.1:80", at: "127", problem: "127.0.0.1 is this host", hint: "name or mesh address of a device"},
	{direction: Egress, text: "tcp:80:[::1]:80", at: "[::1]", problem: "[::1] is this host"},
	{direction: Egress, text: "tcp:80:LocalHost:80", at: "LocalHost", problem: "localhost is this host"},
	{direction: Egress, text: "tcp:80:0.0.0.0:80", at: "0.0.0.0", problem: "0.0.0.0 is this host"},

	// BIND.
	{direction: Ingress, text: "tcp:localhost:80:127.0.0.1:80", at: "localhost", problem: `"localhost" stands where`, hint: "write tcp:80:127.0.0.1:80", suggestionCorrect: true},
	{direction: Egress, text: "tcp:localhost:80:db:80", at: "localhost", problem: `"localhost" stands where`, hint: "write tcp:80:db:80", suggestionCorrect: true},
	{direction: Egress, text: "tcp:*:80:db:80", at: "*:80", problem: `"*" stands where`, hint: "write tcp:[::]:80:db:80", suggestionCorrect: true},
	{direction: Egress, text: "tcp:eth0:80:db:80", at: "eth0", problem: "an IP address to listen on belongs"},
	{direction: Egress, text: "tcp:a/b:80:db:80", at: "a/b", problem: "neither a port nor an address"},
	{direction: Egress, text: "tcp:300.0.0.1:80:db:80", at: "300", problem: "is not an IPv4 address"},
	{direction: Egress, text: "tcp:224.0.0.1:80:db:80", at: "224", problem: "not an address to listen on"},
	{direction: Egress, text: "tcp:[fe80::1]:80:db:80", at: "[fe80", problem: "is link-local"},
	{direction: Ingress, text: "tcp:0.0.0.0:80:127.0.0.1:80", at: "0.0.0.0", problem: "listens at this device's mesh addresses", hint: "write tcp:80:127.0.0.1:80", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:[::1]:80:127.0.0.1:80", at: "[::1]", problem: "not on ::1", hint: "write tcp:80:127.0.0.1:80", suggestionCorrect: true},

	// Unix sockets.
	{direction: Egress, text: "tcp:80:unix:/run/x", at: "unix:", problem: "cannot be reached over the mesh", hint: "ingress rule"},
	{direction: Ingress, text: "udp:80:unix:/run/x", at: "unix:", problem: "takes tcp, not udp"},
	{direction: Ingress, text: "tcp:80:unix:run/x", at: "run/x", problem: "not absolute"},
	{direction: Ingress, text: "tcp:80:unix:@name", at: "@name", problem: "not absolute"},
	{direction: Ingress, text: "tcp:80:unix:///run/x", at: "///run/x", problem: "several slashes", hint: "write tcp:80:unix:/run/x", suggestionCorrect: true},
	{direction: Ingress, text: "tcp:80:unix:/run/", at: "/run/", problem: "is a directory"},
	{direction: Ingress, text: "tcp:80:unix:/run/..", at: "/run/..", problem: "is a directory"},
	{direction: Ingress, text: "tcp:80:unix:/" + strings.Repeat("x", 107), at: "/xxx", problem: "has 108 bytes, at most 107"},
	{direction: Ingress, text: "tcp:80-81:unix:/run/x", at: "80-81", problem: "range of ports cannot lead to one unix socket"},
	{direction: Ingress, text: "tcp:80:unix:", at: "", problem: "destination port is missing"},

	// Options.
	{direction: Ingress, text: "tcp:80:h:80,", at: "", problem: "option is missing after the comma"},
	{direction: Ingress, text: "tcp:80:h:80,,max-conns=1", at: ",max-conns", problem: "option is missing after the comma"},
	{direction: Ingress, text: "tcp:80:h:80,timeout=1s", at: "timeout", problem: `unknown option "timeout"`, hint: "known options are"},
	{direction: Ingress, text: "tcp:80:h:80,max_conns=1", at: "max_conns", problem: "unknown option", hint: "write max-conns="},
	{direction: Ingress, text: "tcp:80:h:80,Allow=db", at: "Allow", problem: "unknown option", hint: "write allow="},
	{direction: Ingress, text: "tcp:80:h:80,=1", at: "=1", problem: `unknown option ""`},
	{direction: Ingress, text: "tcp:80:h:80,allow", at: "", problem: "option allow has no value", hint: "allow=tag:NAME"},
	{direction: Ingress, text: "tcp:80:h:80,max-conns=", at: "", problem: "option max-conns has no value"},
	{direction: Ingress, text: "tcp:80:h:80,max-conns=1,max-conns=1", at: "max-conns=1", problem: "max-conns is given twice"},
	{direction: Ingress, text: "tcp:80:h:80,idle-timeout=1s,dial-timeout=1s,idle-timeout=2s", at: "idle-timeout=2s", problem: "idle-timeout is given twice"},
	{direction: Ingress, text: "tcp:80:h:80,max-conns=0", at: "0", problem: `max-conns "0"`, hint: "from 1 to 1000000"},
	{direction: Ingress, text: "tcp:80:h:80,max-conns=-1", at: "-1", problem: `max-conns "-1"`},
	{direction: Ingress, text: "tcp:80:h:80,max-conns=1000001", at: "1000001", problem: "out of range"},
	{direction: Ingress, text: "tcp:80:h:80,max-conns=01", at: "01", problem: "out of range or not a number"},
	{direction: Ingress, text: "tcp:80:h:80,max-conns=many", at: "many", problem: "not a number"},
	{direction: Ingress, text: "tcp:80:h:80,proxy-protocol=1", at: "1", problem: `proxy-protocol "1"`, hint: "proxy-protocol=v1"},
	{direction: Ingress, text: "udp:80:h:80,proxy-protocol=v1", at: "v1", problem: "for tcp, this rule is udp"},
	{direction: Ingress, text: "tcp:80:h:80,idle-timeout=5", at: "", problem: "idle-timeout has no unit", hint: "idle-timeout=1m"},
	{direction: Ingress, text: "tcp:80:h:80,idle-timeout=1d", at: "1d", problem: "is not a duration"},
	{direction: Ingress, text: "tcp:80:h:80,idle-timeout=0s", at: "0s", problem: "too short"},
	{direction: Ingress, text: "tcp:80:h:80,idle-timeout=-5s", at: "-5s", problem: "too short"},
	{direction: Ingress, text: "tcp:80:h:80,idle-timeout=721h", at: "721h", problem: "too long: at most 720h"},
	{direction: Ingress, text: "tcp:80:h:80,dial-timeout=11m", at: "11m", problem: "too long: at most 10m"},
	{direction: Ingress, text: "tcp:80:h:80,dial-timeout=5s:80", at: "5s:80", problem: "is not a duration"},
	{direction: Ingress, text: "tcp:80:h:80,allow=*", at: "*", problem: "allow=* is not known", hint: "leave allow out"},
	{direction: Ingress, text: "tcp:80:h:80,allow=tag:", at: "", problem: `"" is not a tag`},
	{direction: Ingress, text: "tcp:80:h:80,allow=tag:a/b", at: "a/b", problem: "is not a tag"},
	{direction: Ingress, text: "tcp:80:h:80,allow=10.0.0.0/33", at: "10.0", problem: "is not an address or CIDR"},
	{direction: Ingress, text: "tcp:80:h:80,allow=100.64.0.5/10", at: "100", problem: "names one address and a whole range", hint: "write allow=100.64.0.0/10 or allow=100.64.0.5"},
	{direction: Ingress, text: "tcp:80:h:80,allow=[fd00::1]", at: "[fd00", problem: "is not an address or CIDR", hint: "without brackets"},
	{direction: Ingress, text: "tcp:80:h:80,allow=fe80::1%eth0", at: "fe80", problem: "is not an address or CIDR"},
	{direction: Ingress, text: "tcp:80:h:80,allow=::ffff:10.0.0.1", at: "::ffff", problem: "IPv4 in IPv6 form"},
	{direction: Ingress, text: "tcp:80:h:80,allow=db.example.com", at: "db.example", problem: "neither a device name nor an address"},
	{direction: Egress, text: "tcp:80:h:80,allow=db", at: "db", problem: "clients of an egress rule are hosts", hint: "allow=192.168.1.0/24"},
	{direction: Egress, text: "tcp:80:h:80,allow=tag:web", at: "tag:web", problem: "a tag in allow"},
	{direction: Ingress, text: "tcp:80:h:80" + strings.Repeat(",allow=a", 65), at: "a", problem: "more than 64 allow options"},

	// Characters.
	{direction: Ingress, text: "tcp:80:ho st:80", at: " st:80", problem: "white space", hint: "without spaces"},
	{direction: Ingress, text: "tcp:80:h:80 ", at: " ", problem: "white space"},
	{direction: Ingress, text: "tcp:80:h:80\n", at: "\n", problem: "white space"},
	{direction: Ingress, text: "tcp:80:h\x00:80", at: "\x00:80", problem: "unprintable character U+0000"},
	{direction: Ingress, text: "tcp:80:unix:/x\x1b[2J", at: "\x1b[2J", problem: "unprintable character U+001B"},
	{direction: Ingress, text: "tcp:80:unix:/x\u200b", at: "\u200b", problem: "unprintable character U+200B"},
	{direction: Ingress, text: "tcp:80:unix:/x\xff", at: "\xff", problem: "not valid UTF-8 (byte 0xff)"},
	{direction: Ingress, text: "tcp:80:unix:/" + strings.Repeat("x", MaxLength), problem: "longer than 8192 bytes", positionIsWhole: true},
	{direction: 0, text: "tcp:80:h:80", problem: "direction is not set", positionIsWhole: true},
}

func TestBadRulesAreExplained(t *testing.T) {
	for _, tt := range badRules {
		spec, err := Parse(tt.direction, tt.text)
		var wrong *Error
		if !errors.As(err, &wrong) {
			t.Errorf("%s %q: got %v, %v", tt.direction, clip(tt.text, 60), spec, err)
			continue
		}
		if !spec.IsZero() || wrong.Input != tt.text || wrong.Direction != tt.direction {
			t.Errorf("%q: spec %v, error about %s %q", tt.text, spec, wrong.Direction, wrong.Input)
		}
		if !strings.Contains(wrong.Problem, tt.problem) {
			t.Errorf("%q: problem %q, want %q", clip(tt.text, 60), wrong.Problem, tt.problem)
		}
		if !strings.Contains(wrong.Hint, tt.hint) {
			t.Errorf("%q: hint %q, want %q", clip(tt.text, 60), wrong.Hint, tt.hint)
		}
		switch {
		case tt.positionIsWhole:
			if wrong.Pos != -1 {
				t.Errorf("%q: position %d, want -1", clip(tt.text, 60), wrong.Pos)
			}
		case wrong.Pos < 0 || wrong.Pos > len(tt.text):
			t.Errorf("%q: position %d", clip(tt.text, 60), wrong.Pos)
		case tt.at == "" && wrong.Pos != len(tt.text), !strings.HasPrefix(tt.text[wrong.Pos:], tt.at):
			t.Errorf("%q: points at %q, want %q", clip(tt.text, 60), clip(tt.text[wrong.Pos:], 60), tt.at)
		}
		if tt.suggestionCorrect {
			better := strings.TrimPrefix(wrong.Hint, "write ")
			if _, err := Parse(tt.direction, better); err != nil {
				t.Errorf("%q: the hint %q is no rule itself: %v", tt.text, better, err)
			}
		}
		checkMessages(t, wrong)
	}
	if len(badRules) < 60 {
		t.Errorf("the table has %d rules", len(badRules))
	}
}

// checkMessages holds for every error: nothing in it acts on a terminal, and it stays short.
func checkMessages(t *testing.T, e *Error) {
	t.Helper()
	line, detail := e.Error(), e.Detail()
	for _, s := range []string{line, strings.ReplaceAll(detail, "\n", "")} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) {
			t.Errorf("control character in %q", s)
		}
		if len(s) > 2000 {
			t.Errorf("message of %d bytes: %q", len(s), s)
		}
	}
	if e.Problem == "" || !strings.Contains(line, e.Problem) || !strings.Contains(detail, e.Problem) {
		t.Errorf("problem %q is missing from %q or %q", e.Problem, line, detail)
	}
}

func TestErrorPointsWithACaret(t *testing.T) {
	_, err := Parse(Ingress, "tcp:80:über:80")
	var wrong *Error
	if !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	want := `ingress rule: host "über" is not in ASCII
  tcp:80:über:80
         ^
write its ASCII form, which begins with xn--`
	if got := wrong.Detail(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := wrong.Error(), `ingress rule "tcp:80:über:80": host "über" is not in ASCII: write its ASCII form, which begins with xn--`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	_, err = Parse(Ingress, "tcp:80:"+strings.Repeat("a.", 60)+"b:80,"+strings.Repeat("allow=x,", 40)+"no=1")
	if !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	lines := strings.Split(wrong.Detail(), "\n")
	shown, caret := []rune(lines[1]), strings.Index(lines[2], "^")
	if string(shown[caret:]) != "no=1" || shown[2] != '…' || len(shown) > 2+2*shownAround+2 {
		t.Errorf("a long rule is shown as\n%s\n%s", lines[1], lines[2])
	}
}
