package database

import (
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// stablePlans makes a prepared statement keep its plan when other values are bound to it; without it SQLite parses most
// of kine's queries again each time, since the table has a partial index. It holds for every connection of this process
// opened afterwards.
//
// The option is set by a function of SQLite's C interface; there is no PRAGMA for it, and no method of the driver. So SQLite
// is given a function that it calls with each new connection (its name for that is "auto extension").
var stablePlans = sync.OnceValue(func() error {
	tls := libc.NewTLS()
	defer tls.Close()
	if code := sqlite.Xsqlite3_auto_extension(tls, pointerTo(keepPlan)); code != sqlite.SQLITE_OK {
		return fmt.Errorf("SQLite takes no function for new connections (%d)", code)
	}
	return nil
})

// connectionHook is what SQLite calls with a new connection.
type connectionHook = func(tls *libc.TLS, db, message, api uintptr) int32

// pointerTo gives a function as modernc's translation of C calls it: by the address of Go's function value. It has to be a
// declared one, which stays where it is.
func pointerTo(hook connectionHook) uintptr { return *(*uintptr)(unsafe.Pointer(&hook)) }

// keepPlan turns on SQLite's query planner stability guarantee for one new connection.
func keepPlan(tls *libc.TLS, db, _, _ uintptr) int32 {
	const slot = 8 // each of the two values takes as much
	list := tls.Alloc(2 * slot)
	defer tls.Free(2 * slot)
	return sqlite.Xsqlite3_db_config(tls, db, sqlite.SQLITE_DBCONFIG_ENABLE_QPSG, libc.VaList(list, int32(1), uintptr(0)))
}
