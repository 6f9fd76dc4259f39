package store

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Hint says what a person can do about an error of the database file, or ""
// where nothing is known.
func Hint(err error) string {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code() & 0xff { // the rest says more exactly where
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return "it is damaged or of another program, and was kept: restore it from a backup, or move it away to begin with an empty one, which all devices have to join again"
	case sqlite3.SQLITE_FULL:
		return "make room on its disk"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return "its directory must be writable for this user"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program has it open: end that first"
	case sqlite3.SQLITE_IOERR:
		return "look at its disk"
	}
	return ""
}
