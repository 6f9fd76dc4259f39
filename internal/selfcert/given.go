package selfcert

import (
	"crypto/tls"
	"log/slog"
	"os"
	"time"
)

type fileStamp struct {
	modified time.Time
	size     int64
}

// Load reads a certificate and its key. Run reads them again when they change;
// files that cannot be used then leave the old certificate in place. A nil log
// is silent.
func Load(files Files, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{log: orSilent(log), files: files, given: true}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the given files when they changed since they were read last.
func (c *Certificate) reload() (changed bool, err error) {
	var stamp [2]fileStamp
	for i, path := range []string{c.files.Cert, c.files.Key} {
		st, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		stamp[i] = fileStamp{modified: st.ModTime(), size: st.Size()}
	}
	if stamp == c.stamp {
		return false, nil
	}
	cert, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return false, err
	}
	c.stamp = stamp
	c.current.Store(&cert)
	return true, nil
}

func orSilent(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
