package main

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// sqliteDefaults are the settings kine needs to work on SQLite at all (a
// write-ahead log, and waiting for locks instead of failing), each with the
// other name the driver knows it by. The setting cache=shared of other drivers
// is missing because the driver in pure Go ignores it.
func sqliteDefaults() [][3]string {
	return [][3]string{
		{"_journal_mode", "_journal", "WAL"},
		{"_busy_timeout", "_timeout", "30000"},
		{"_synchronous", "_sync", "NORMAL"},
		{"_txlock", "_txlock", "immediate"},
	}
}

// sqlite returns the DSN for the address of a sqlite:// endpoint, which may be
// empty, and the database file.
func sqlite(address, dbDir string) (dsn, file string, err error) {
	file, query, _ := strings.Cut(address, "?")
	if file == "" {
		if !path.IsAbs(dbDir) {
			return "", "", fmt.Errorf("db_dir %q is not absolute; set --data-dir to an absolute path", dbDir)
		}
		file = path.Join(dbDir, "state.db")
	}
	if !path.IsAbs(file) {
		return "", "", fmt.Errorf("datastore-endpoint: %q is not absolute; write sqlite:///path/state.db", file)
	}
	// The driver takes the file for a URI.
	if strings.ContainsAny(file, "?#%") {
		return "", "", errors.New("the path of the SQLite file holds '?', '#' or '%', which the driver cannot take; use another data-dir or path")
	}
	given := map[string]bool{}
	for setting := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(setting, "=")
		given[name] = true
	}
	settings := []string{}
	for _, d := range sqliteDefaults() {
		if !given[d[0]] && !given[d[1]] {
			settings = append(settings, d[0]+"="+d[2])
		}
	}
	if query != "" {
		settings = append(settings, query)
	}
	return "sqlite://" + file + "?" + strings.Join(settings, "&"), file, nil
}
