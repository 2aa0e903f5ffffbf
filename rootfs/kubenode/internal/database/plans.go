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
// The option has no PRAGMA, only a call in C, for which the driver has no method. What SQLite runs for each new connection
// is the way to it: a function of SQLite's "auto extension" type.
var stablePlans = sync.OnceValue(func() error {
	tls := libc.NewTLS()
	defer tls.Close()
	function := keepPlan
	// A function pointer as modernc's translation of C calls it: the address of Go's function value.
	pointer := *(*uintptr)(unsafe.Pointer(&function))
	if code := sqlite.Xsqlite3_auto_extension(tls, pointer); code != sqlite.SQLITE_OK {
		return fmt.Errorf("SQLite takes no function for new connections (%d)", code)
	}
	return nil
})

// keepPlan turns on SQLite's query planner stability guarantee for one new connection.
func keepPlan(tls *libc.TLS, db, _, _ uintptr) int32 {
	const slot = 8 // each of the two values takes as much
	list := tls.Alloc(2 * slot)
	defer tls.Free(2 * slot)
	return sqlite.Xsqlite3_db_config(tls, db, sqlite.SQLITE_DBCONFIG_ENABLE_QPSG, libc.VaList(list, int32(1), uintptr(0)))
}
