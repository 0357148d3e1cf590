package kine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"modernc.org/sqlite"
	sqlitecodes "modernc.org/sqlite/lib"
)

// checkAtMost is how large a database is read as a whole before it is opened,
// 0.1 s or so; a larger one is looked at only where SQLite begins.
const checkAtMost = 64 << 20

// checkFile tells whether the SQLite file of an endpoint, if it is one's and is
// there, can be what kine wrote. kine itself tries for minutes to open what is no
// database, and would serve one whose damage lies deeper.
func checkFile(ctx context.Context, endpoint string) error {
	file, ok := strings.CutPrefix(endpoint, "sqlite://")
	if !ok {
		return nil
	}
	file, _, _ = strings.Cut(file, "?")
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file; move it away, or name another with --datastore-endpoint", file)
	case info.Size() == 0:
		return nil
	}
	check := "PRAGMA quick_check(1)"
	if info.Size() > checkAtMost {
		check = "SELECT 'ok' FROM sqlite_master LIMIT 1"
	}
	verdict, err := ask(ctx, file, check)
	var broken *sqlite.Error
	switch {
	case err == nil && verdict == "ok", errors.Is(err, sql.ErrNoRows), ctx.Err() != nil:
		return nil
	case err != nil && full(file): // which SQLite says in many ways
		return fmt.Errorf("read %s: %w (%w)", file, syscall.ENOSPC, err)
	case err == nil:
		err = errors.New(strings.ReplaceAll(verdict, "\n", ", "))
	case errors.As(err, &broken) && (broken.Code()&0xff == sqlitecodes.SQLITE_CORRUPT || broken.Code()&0xff == sqlitecodes.SQLITE_NOTADB):
	default:
		return fmt.Errorf("read %s: %w", file, err)
	}
	return fmt.Errorf("%s is damaged: %w. It was left as it is: put a copy from before back, with its -wal file and without its -shm file, "+
		"or move all three away to begin with an empty cluster", file, err)
}

// full tells whether the file system of a file has not even room for what SQLite
// needs to open one.
func full(file string) bool {
	var fs syscall.Statfs_t
	return syscall.Statfs(file, &fs) == nil && fs.Bavail*uint64(fs.Bsize) < 64<<10
}

func ask(ctx context.Context, file, query string) (verdict string, err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_pragma=busy_timeout(30000)")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, query).Scan(&verdict)
	return verdict, err
}
