package kine

import (
	"context"
	"database/sql/driver"
	"errors"
)

// keptStatements bounds what a connection keeps. kine has some thirty texts, and
// a few more for each page size that clients ask for.
const keptStatements = 64

// sqliteConn is what SQLite's driver gives.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// sqliteStmt is a statement of it.
type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// keepingConnector opens connections that keep their statements prepared.
type keepingConnector struct{ driver.Connector }

// Connect implements driver.Connector.
func (c keepingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, ok := opened.(sqliteConn)
	if !ok {
		return nil, errors.Join(errors.New("SQLite's driver gives connections of another kind"), opened.Close())
	}
	return &keepingConn{sqliteConn: conn, kept: map[string]*statement{}}, nil
}

// keepingConn is a connection that keeps its statements. As with every
// connection, database/sql lets one goroutine at a time use it.
type keepingConn struct {
	sqliteConn

	kept map[string]*statement
}

// statement is a prepared statement; busy while rows of it are read.
type statement struct {
	sqliteStmt

	busy bool
}

// statement returns the prepared statement for query, nil if that is in use or
// cannot be kept.
func (c *keepingConn) statement(ctx context.Context, query string) (*statement, error) {
	if s := c.kept[query]; s != nil {
		if s.busy {
			return nil, nil
		}
		return s, nil
	}
	if len(c.kept) >= keptStatements {
		for text, s := range c.kept { // any: they come again if they are needed
			if !s.busy {
				delete(c.kept, text)
				if err := s.Close(); err != nil {
					return nil, err
				}
				break
			}
		}
	}
	prepared, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	stmt, ok := prepared.(sqliteStmt)
	if !ok {
		return nil, prepared.Close()
	}
	s := &statement{sqliteStmt: stmt}
	c.kept[query] = s
	return s, nil
}

// ExecContext implements driver.ExecerContext.
func (c *keepingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	// What changes settings or the schema is run once.
	if len(args) == 0 {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	return s.ExecContext(ctx, args)
}

// QueryContext implements driver.QueryerContext.
func (c *keepingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.sqliteConn.QueryContext(ctx, query, args)
	}
	rows, err := s.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.busy = true
	return &keptRows{Rows: rows, of: s}, nil
}

// keptRows are rows of a statement that is used again.
type keptRows struct {
	driver.Rows

	of *statement
}

// Close implements driver.Rows.
func (r *keptRows) Close() error {
	r.of.busy = false
	return r.Rows.Close()
}

// Close ends the connection and its statements.
func (c *keepingConn) Close() error {
	var errs []error
	for _, s := range c.kept {
		errs = append(errs, s.Close())
	}
	clear(c.kept)
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}
