// Package settings reads what whoever runs a benchmark has chosen, from variables of
// the environment. What is not set keeps its default.
package settings

import (
	"fmt"
	"strconv"
	"time"
)

// Count reads a number from least to most.
func Count(getenv func(string) string, name string, into *int, least, most int) error {
	v := getenv(name)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return fmt.Errorf("%s: %q, want %d to %d", name, v, least, most)
	}
	*into = n
	return nil
}

// Duration reads a time from a second to an hour.
func Duration(getenv func(string) string, name string, into *time.Duration) error {
	v := getenv(name)
	if v == "" {
		return nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Second || d > time.Hour {
		return fmt.Errorf("%s: %q, want a duration from 1s to 1h", name, v)
	}
	*into = d
	return nil
}
