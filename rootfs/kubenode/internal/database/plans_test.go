package database

import (
	"sync/atomic"
	"testing"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// opened and stable count the connections that readPlan saw, and those of them that keep their plans.
var opened, stable atomic.Int64

func readPlan(tls *libc.TLS, db, _, _ uintptr) int32 {
	const ask = int32(-1)
	list, answer := tls.Alloc(16), tls.Alloc(8)
	defer tls.Free(8)
	defer tls.Free(16)
	opened.Add(1)
	code := sqlite.Xsqlite3_db_config(tls, db, sqlite.SQLITE_DBCONFIG_ENABLE_QPSG, libc.VaList(list, ask, answer))
	if libc.GoBytes(answer, 1)[0] == 1 {
		stable.Add(1)
	}
	return code
}

func TestEveryConnectionKeepsItsPlansWhenOtherValuesAreBound(t *testing.T) {
	openBoth(t) // registers stablePlans, which then runs before readPlan
	tls := libc.NewTLS()
	defer tls.Close()
	pointer := pointerTo(readPlan)
	if code := sqlite.Xsqlite3_auto_extension(tls, pointer); code != sqlite.SQLITE_OK {
		t.Fatal(code)
	}
	defer sqlite.Xsqlite3_cancel_auto_extension(tls, pointer)
	openBoth(t)
	if opened.Load() < 2 || stable.Load() != opened.Load() {
		t.Errorf("%d of %d connections keep their plans", stable.Load(), opened.Load())
	}
}
