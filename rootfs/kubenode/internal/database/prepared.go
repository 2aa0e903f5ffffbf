package database

import (
	"context"
	"database/sql/driver"
	"errors"
)

// keptStatements bounds how many statements one connection keeps. kine has some forty; those with a limit in their text
// come in several forms.
const keptStatements = 64

// prepared opens connections that keep their prepared statements. kine asks the same queries over and over, and parsing
// their text, longer than their work, took 7 % of the processor time of a start.
type prepared struct {
	driver driver.Driver
	source string
}

func (p prepared) Driver() driver.Driver { return p.driver }

func (p prepared) Connect(context.Context) (driver.Conn, error) {
	opened, err := p.driver.Open(p.source)
	if err != nil {
		return nil, err
	}
	inner, ok := opened.(connection)
	if !ok {
		return nil, errors.Join(errors.New("the SQLite driver lacks a method that database/sql uses"), opened.Close())
	}
	return &keepingConnection{connection: inner, kept: map[string]*keptStatement{}}, nil
}

// connection is what modernc's connections can, so that nothing of it is lost behind the wrapper.
type connection interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// statement is what modernc's statements can.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// keptStatement is busy while rows of it are read: a transaction may ask the same again before it has closed them.
type keptStatement struct {
	statement
	query string
	busy  bool
}

// keepingConnection is used by one caller at a time, as every connection of database/sql.
type keepingConnection struct {
	connection
	kept map[string]*keptStatement
}

// take gives the kept statement of a query; nil stands for one that cannot be kept now.
func (c *keepingConnection) take(ctx context.Context, query string) (*keptStatement, error) {
	if kept, ok := c.kept[query]; ok {
		if kept.busy {
			return nil, nil
		}
		return kept, nil
	}
	if len(c.kept) >= keptStatements {
		return nil, nil
	}
	made, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	usable, ok := made.(statement)
	if !ok {
		return nil, errors.Join(errors.New("the SQLite driver's statements take no context"), made.Close())
	}
	kept := &keptStatement{statement: usable, query: query}
	c.kept[query] = kept
	return kept, nil
}

// drop forgets a statement that failed, since it may be left in the middle of its work.
func (c *keepingConnection) drop(kept *keptStatement) error {
	delete(c.kept, kept.query)
	return kept.Close()
}

// ExecContext runs a query without rows.
func (c *keepingConnection) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	kept, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return c.connection.ExecContext(ctx, query, args)
	}
	result, err := kept.ExecContext(ctx, args)
	if err != nil {
		_ = c.drop(kept) // it says the same again
	}
	return result, err
}

// QueryContext runs a query; its statement can be used again once the rows are closed.
func (c *keepingConnection) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	kept, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return c.connection.QueryContext(ctx, query, args)
	}
	rows, err := kept.QueryContext(ctx, args)
	if err != nil {
		_ = c.drop(kept) // it says the same again
		return nil, err
	}
	kept.busy = true
	return &keptRows{Rows: rows, connection: c, kept: kept}, nil
}

// Close ends the statements first: SQLite does not close a database that has some.
func (c *keepingConnection) Close() error {
	var errs []error
	for _, kept := range c.kept {
		errs = append(errs, c.drop(kept))
	}
	return errors.Join(append(errs, c.connection.Close())...)
}

type keptRows struct {
	driver.Rows
	connection *keepingConnection
	kept       *keptStatement
}

// Close gives the statement back.
func (r *keptRows) Close() error {
	if err := r.Rows.Close(); err != nil {
		_ = r.connection.drop(r.kept) // it says the same again
		return err
	}
	r.kept.busy = false
	return nil
}
