package database

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
)

// openBoth gives what is opened, and the connections under it.
func openBoth(t testing.TB) (server.Backend, *generic.Generic) {
	t.Helper()
	logrus.SetLevel(logrus.WarnLevel)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	backend, db, err := Open(ctx, &running, filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	return backend, db
}

// one gives a connection of the pool to itself.
func one(t *testing.T, db *generic.Generic, work func(*keepingConnection)) {
	t.Helper()
	conn, err := db.DB.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Raw(func(raw any) error {
		work(raw.(*keepingConnection))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAStatementIsParsedOnceAndGivesNewRowsEachTime(t *testing.T) {
	_, db := openBoth(t)
	ctx := context.Background()
	conn, err := db.DB.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for want := range 3 {
		var got int
		if err := conn.QueryRowContext(ctx, "SELECT ? + 0", want).Scan(&got); err != nil || got != want {
			t.Fatalf("got %d (%v), not %d", got, err, want)
		}
	}
	_ = conn.Raw(func(raw any) error {
		kept := raw.(*keepingConnection).kept
		if s := kept["SELECT ? + 0"]; s == nil || s.busy {
			t.Fatalf("the statement is not kept, or not free: %v", s)
		}
		return nil
	})
}

func TestTheSameQueryWhileItsRowsAreReadHasRowsOfItsOwn(t *testing.T) {
	_, db := openBoth(t)
	tx, err := db.DB.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	const query = "SELECT 1 UNION ALL SELECT 2"
	outer, err := tx.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	seen := ""
	for outer.Next() {
		var a, b int
		if err := outer.Scan(&a); err != nil {
			t.Fatal(err)
		}
		inner, err := tx.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		for inner.Next() {
			if err := inner.Scan(&b); err != nil {
				t.Fatal(err)
			}
			seen += fmt.Sprint(a, b, ";")
		}
		if err := inner.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if want := "1 1;1 2;2 1;2 2;"; seen != want {
		t.Fatalf("%q, not %q", seen, want)
	}
}

func TestAFailedStatementIsForgottenAndWorksTheNextTime(t *testing.T) {
	_, db := openBoth(t)
	const insert = "INSERT INTO kine(name, prev_revision) VALUES(?, ?)"
	for _, step := range []struct {
		name  string
		fails bool
	}{{"a", false}, {"a", true}, {"b", false}} {
		if _, err := db.DB.Exec(insert, step.name, 1); (err != nil) != step.fails {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	if _, err := db.DB.Query("SELECT nothing FROM nowhere"); err == nil {
		t.Fatal("a query of a missing table gives no error")
	}
}

func TestTheNumberOfKeptStatementsIsBounded(t *testing.T) {
	_, db := openBoth(t)
	ctx := context.Background()
	one(t, db, func(c *keepingConnection) {
		for limit := range 2 * keptStatements {
			rows, err := c.QueryContext(ctx, fmt.Sprintf("SELECT 1 LIMIT %d", limit), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := rows.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.kept) > keptStatements {
			t.Errorf("%d are kept", len(c.kept))
		}
	})
}

// BenchmarkGet is what the API server asks most.
func BenchmarkGet(b *testing.B) {
	backend, _ := openBoth(b)
	ctx := context.Background()
	if _, err := backend.Create(ctx, "/registry/pods/a", []byte("x"), 0); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := backend.Get(ctx, "/registry/pods/a", 0, false); err != nil {
			b.Fatal(err)
		}
	}
}
