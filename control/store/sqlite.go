package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"nexd/internal/logkey"
)

//go:embed migrations/*.sql
var migrations embed.FS

// SQLite is a [Store] in one file. One connection writes, so that writers queue
// in this process instead of meeting SQLITE_BUSY; several read beside it (WAL).
type SQLite struct {
	write, read *sql.DB
	log         *slog.Logger
}

var _ Store = (*SQLite)(nil)

// Each commit is synced to the disk: what was acknowledged survives a crash of
// the process and of the machine.
var pragmas = []string{
	"busy_timeout(5000)",
	"journal_mode(WAL)",
	"synchronous(FULL)",
	"foreign_keys(ON)",
}

// OpenSQLite opens the database in file, made (mode 0600) when there is none,
// and brings its schema up to date. The caller closes it.
func OpenSQLite(ctx context.Context, file string, log *slog.Logger) (*SQLite, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// Made here first: SQLite would take the mode from the umask, and gives the
	// WAL the mode of the database.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	makePrivate(f, log)
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &SQLite{log: log}
	if s.write, err = sql.Open("sqlite", dsn(file, "immediate")); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn(file, "deferred", "query_only(ON)")); err != nil {
		s.write.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	s.read.SetMaxOpenConns(4)
	s.read.SetMaxIdleConns(4)
	if err := migrate(ctx, s.write); err != nil {
		s.Close()
		return nil, fmt.Errorf("open database %s: %w", file, err)
	}
	return s, nil
}

// makePrivate takes the database from others who can read it: it holds keys, and
// a copy that was put back has the mode of somebody's umask. Files that an
// earlier run left beside it go with it.
func makePrivate(f *os.File, log *slog.Logger) {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return
	}
	if err := f.Chmod(0o600); err != nil {
		log.Warn("other users can read the database: make it private (mode 0600)", logkey.File, f.Name(), logkey.Err, err)
		return
	}
	for _, beside := range []string{"-wal", "-shm"} {
		_ = os.Chmod(f.Name()+beside, 0o600) // most often there is none
	}
}

func dsn(file, lock string, more ...string) string {
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	q := url.Values{"_txlock": {lock}, "_pragma": append(append([]string{}, pragmas...), more...)}
	return (&url.URL{Scheme: "file", Path: file, RawQuery: q.Encode()}).String()
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > want {
		return fmt.Errorf("its schema is version %d, this program knows %d: use the newer program that wrote it", have, want)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring schema up to date: %w", err)
	}
	return nil
}

// Close ends all use of the database. It may be called more than once.
func (s *SQLite) Close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}

// tx runs do in a transaction that is durable when tx returns nil and without
// a trace otherwise.
func (s *SQLite) tx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// CheckWritable implements [Store].
func (s *SQLite) CheckWritable(ctx context.Context) error {
	return s.PutSetting(ctx, "checked", time.Now().UTC().Format(time.RFC3339Nano))
}

// Setting implements [Store].
func (s *SQLite) Setting(ctx context.Context, name string, create func() (string, error)) (string, error) {
	var value string
	err := s.tx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT value FROM settings WHERE name = $1`, name).Scan(&value)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if value, err = create(); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2)`, name, value)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("setting %s: %w", name, err)
	}
	return value, nil
}

// PutSetting implements [Store].
func (s *SQLite) PutSetting(ctx context.Context, name, value string) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx,
			`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("put setting %s: %w", name, err)
	}
	return nil
}
