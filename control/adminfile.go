package control

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/durable"
	"nexd/internal/logkey"
)

// newSecret returns 256 random bits as text.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// setUpAdmin makes sure that STATE/admin.json holds a token that the database
// knows by its hash. The file is the token's only copy: without it, or with a
// token the database does not know, a new one is made and the old one is void.
func (s *Service) setUpAdmin(ctx context.Context) error {
	path := filepath.Join(s.cfg.StateDir, adminFile)
	content, err := durable.ReadFile(path, maxAdminFile)
	if err != nil {
		return fmt.Errorf("read admin file: %w", err)
	}
	var have controlapi.AdminFile
	if content != nil {
		if err := json.Unmarshal(content, &have); err != nil {
			return fmt.Errorf("admin file %s cannot be read (%v): remove it to get a new one with a new token", path, err)
		}
	}
	const minToken = 32
	want := controlapi.AdminFile{URL: s.url, Token: have.Token, Pin: string(s.pin())}
	hash := store.HashOf(have.Token)
	known, err := s.store.Setting(ctx, settingAdmin, func() (string, error) {
		if len(want.Token) < minToken {
			want.Token = newSecret()
		}
		hash = store.HashOf(want.Token)
		return hex.EncodeToString(hash[:]), nil
	})
	if err != nil {
		return err
	}
	if known != hex.EncodeToString(hash[:]) {
		want.Token = newSecret()
		hash = store.HashOf(want.Token)
		s.log.Warn("new administrator token: the admin file was missing or held another one", logkey.File, path)
		if err := s.store.PutSetting(ctx, settingAdmin, hex.EncodeToString(hash[:])); err != nil {
			return err
		}
	}
	s.adminHash = hash
	if want == have {
		return nil
	}
	out, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		return fmt.Errorf("admin file: %w", err)
	}
	return durable.WriteFile(path, append(out, '\n'))
}

// isAdmin reports whether token is the administrator's.
func (s *Service) isAdmin(token string) bool {
	hash := store.HashOf(token)
	return subtle.ConstantTimeCompare(hash[:], s.adminHash[:]) == 1
}
