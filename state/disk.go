package state

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"nexd/internal/logkey"
)

// Names in the directory.
const (
	FileName = "state.json"
	LockName = "nexd.lock"
	newName  = FileName + ".new"
)

// disk is a locked directory. Its methods are called one at a time.
type disk struct {
	dir  string
	root *os.Root // stays the same directory whatever its name becomes
	lock *os.File
	// written is the sum of the file as it is known to be, so that a change of
	// nothing costs nothing; behind: the last save failed.
	written [sha256.Size]byte
	behind  bool
}

func (d *disk) file() string { return filepath.Join(d.dir, FileName) }

// openDisk makes, checks and locks the directory.
func openDisk(dir string, log *slog.Logger) (*disk, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make state directory %s: %w: %s", dir, err, dirHint(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w: %s", dir, err, dirHint(err))
	}
	if err := checkDir(root, dir, log); err != nil {
		root.Close()
		return nil, err
	}
	lock, err := takeLock(root, dir)
	if err != nil {
		root.Close()
		return nil, err
	}
	return &disk{dir: dir, root: root, lock: lock}, nil
}

// makeDir makes dir, with the parents it lacks, and its entry durable.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return nil // it may be searched but not read; then only the sync is left out
	}
	defer parent.Close()
	return parent.Sync()
}

// checkDir makes an empty directory of ours private and warns of others that are not.
func checkDir(root *os.Root, dir string, log *slog.Logger) error {
	f, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("open state directory %s: %w: %s", dir, err, dirHint(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open state directory %s: %w", dir, err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if _, err := f.Readdirnames(1); errors.Is(err, io.EOF) && f.Chmod(0o700) == nil {
		return nil
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		log.Warn("other users can replace files in the state directory: make it private (mode 0700)",
			logkey.File, dir, "mode", info.Mode().Perm())
	}
	return nil
}

// load reads the content; a directory without a file has none.
func (d *disk) load() (Data, error) {
	// Without waiting: a named pipe in the place of the file must not stop us.
	f, err := d.root.OpenFile(FileName, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := d.root.Lstat(FileName); lerr == nil {
			return Data{}, d.fileError(errors.New("is a link that leads nowhere"), hintRestore)
		}
		return Data{Version: Version}, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return Data{}, d.fileError(fmt.Errorf("cannot be read: %w", err), hintOwner)
	}
	if err != nil {
		return Data{}, d.fileError(fmt.Errorf("cannot be read: %w", err), hintRestore)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Data{}, d.fileError(fmt.Errorf("cannot be read: %w", err), hintRestore)
	}
	if !info.Mode().IsRegular() {
		return Data{}, d.fileError(errors.New("is not a regular file"), hintRestore)
	}
	if owner, ok := strangeOwner(info); ok {
		return Data{}, d.fileError(fmt.Errorf("belongs to another user (uid %d)", owner), hintOwner)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	switch {
	case err != nil:
		return Data{}, d.fileError(fmt.Errorf("cannot be read: %w", err), hintRestore)
	case len(b) > MaxSize:
		return Data{}, d.fileError(fmt.Errorf("is larger than %d bytes", MaxSize), hintRestore)
	}
	data, err := decode(b)
	switch {
	case errors.Is(err, errNewer):
		return Data{}, d.fileError(err, hintNewer)
	case err != nil:
		return Data{}, d.fileError(err, hintRestore)
	}
	d.written = sha256.Sum256(b)
	return data, nil
}

func (d *disk) fileError(err error, hint string) error {
	return &FileError{File: d.file(), Hint: hint, Err: err}
}

// strangeOwner reports a file that neither we nor root made. Root reads all.
func strangeOwner(info fs.FileInfo) (uid uint32, ok bool) {
	st, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	me := os.Geteuid()
	return st.Uid, me != 0 && st.Uid != 0 && int(st.Uid) != me
}

// save replaces the file by b and returns when that is durable.
func (d *disk) save(b []byte) error {
	sum := sha256.Sum256(b)
	if sum == d.written && !d.behind {
		return nil
	}
	d.behind = true
	if err := d.writeNew(b); err != nil {
		d.root.Remove(newName) // a full disk needs the room
		return err
	}
	if err := d.root.Rename(newName, FileName); err != nil {
		d.root.Remove(newName)
		return err
	}
	if err := d.syncDir(); err != nil {
		return err
	}
	d.written, d.behind = sum, false
	return nil
}

// writeNew writes and syncs the new file, private from its first moment.
func (d *disk) writeNew(b []byte) error {
	// Whatever a crash left in its place goes, with its mode and owner.
	if err := d.root.Remove(newName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.root.OpenFile(newName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (d *disk) syncDir() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// close gives the directory free.
func (d *disk) close() error {
	return errors.Join(releaseLock(d.lock), d.root.Close())
}
