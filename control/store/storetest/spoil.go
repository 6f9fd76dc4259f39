package storetest

import (
	"database/sql"
	"net/url"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// SpoilDevice sets one column of a device's record in a SQLite database to a
// value the program would never write, as a hand or a bad disk might.
func SpoilDevice(t *testing.T, file, id, column string, value any) {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file, RawQuery: "_pragma=busy_timeout(5000)"}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	res, err := db.Exec(`UPDATE devices SET `+column+` = $1 WHERE id = $2`, value, id)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := res.RowsAffected(); n != 1 {
		t.Fatalf("spoil device %s: %d records", id, n)
	}
}
