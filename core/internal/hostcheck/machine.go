package hostcheck

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxFile      = 1 << 20
	trialTimeout = 10 * time.Second
)

// This returns the machine that the process runs on.
func This() Machine {
	return Machine{
		Now:      time.Now,
		Root:     func() bool { return os.Geteuid() == 0 },
		ReadFile: readFile,
		ReadDir: func(path string) ([]string, error) {
			dir, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			defer dir.Close()
			return dir.Readdirnames(-1)
		},
		Stat: func(path string) error {
			_, err := os.Stat(path)
			return err
		},
		Readlink: os.Readlink,
		Writable: func(path string) bool { return unix.Access(path, unix.W_OK) == nil },
		Statfs: func(path string) (st unix.Statfs_t, err error) {
			if err := unix.Statfs(path, &st); err != nil {
				return st, fmt.Errorf("%s: %w", path, err)
			}
			return st, nil
		},
		Program: func(name string) error {
			_, err := exec.LookPath(name)
			return err
		},
		Resolve: func(ctx context.Context, host string) error {
			_, err := net.DefaultResolver.LookupHost(ctx, host)
			return err
		},
		Hostname: os.Hostname,
		Release: func() string {
			var name unix.Utsname
			if unix.Uname(&name) != nil {
				return ""
			}
			return unix.ByteSliceToString(name.Release[:])
		},
		Listen: listen,
		Connect: func(ctx context.Context, address string) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		},
		Answers: func(ctx context.Context, socket string) bool {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			if err != nil {
				return false
			}
			_ = conn.Close() // nothing was sent
			return true
		},
		OpenMax: func() (uint64, error) {
			var limit unix.Rlimit
			err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
			return limit.Max, err
		},
		Synced: func() (bool, error) {
			var t unix.Timex // no mode: it only reads
			state, err := unix.Adjtimex(&t)
			return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err
		},
		Try: try,
	}
}

// readFile reads a small file, unpacked if its name ends in .gz.
func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(text), nil
}

// listen opens a port and closes it.
func listen(ctx context.Context, p Port) error {
	var config net.ListenConfig
	var c io.Closer
	var err error
	if p.Network == "udp" {
		c, err = config.ListenPacket(ctx, p.Network, p.Address)
	} else {
		c, err = config.Listen(ctx, p.Network, p.Address)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.New("in use")
	case err != nil:
		return err
	}
	return c.Close()
}
