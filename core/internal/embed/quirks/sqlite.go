package quirks

import (
	"context"

	"modernc.org/sqlite"
)

// MendKineMigration keeps kine from blocking its own SQLite database; Settle
// calls it. When kine opens one, it counts the rows of two tables at once, to
// see whether the state of a very old version, in the table key_value, is to be
// taken over. If that table is missing, as it always is, kine never reads the
// second answer, and so holds a read transaction for as long as the process
// lives: the write-ahead log cannot begin anew and grows with every write.
//
// Every connection therefore gets a view by that name with one row, so that
// kine reads both answers. The row is without an id, so that there is nothing to
// take over.
func MendKineMigration() {
	const view = `CREATE TEMP VIEW IF NOT EXISTS key_value AS SELECT NULL AS id, NULL AS name, NULL AS value, 0 AS ttl`
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, _ string) error {
		_, err := conn.ExecContext(context.Background(), view, nil)
		return err
	})
}
