package relay

import (
	"testing"
)

func TestForwards(t *testing.T) {
	for name, options := range map[string][2]nodeOption{
		"udp to udp": {onlyUDP, onlyUDP},
		"udp to tls": {onlyUDP, onlyTLS},
		"tls to udp": {onlyTLS, onlyUDP},
		"tls to tls": {onlyTLS, onlyTLS},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			a, b := r.node("net", options[0]), r.node("net", options[1])
			a.reaches(b, "there")
			b.reaches(a, "and back")
			a.agreed(b)
			b.agreed(a)
			a.reaches(b, "by channel")
			b.reaches(a, "and back by channel")
			if s := r.server.Stats(); s.SessionsUDP+s.SessionsTLS != 2 || s.Networks != 1 || s.Admitted != 2 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}
