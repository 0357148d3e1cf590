package netpolicy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxAttachmentBytes bounds what is read of a file; they have about 2 KiB.
const maxAttachmentBytes = 256 << 10

// attachments are the addresses of this node's pods as the runtime's CNI library
// records them: when a pod has got its network, before its first container
// starts. The API server learns them a second later.
type attachments struct {
	dir string
	fs  *fsnotify.Watcher

	mu    sync.Mutex
	files map[string]attachment // by path
}

type attachment struct {
	uid       string // of the pod
	addresses []netip.Addr
	written   time.Time
}

// watchAttachments reads the directory; follow keeps up with it.
func watchAttachments(dir string) (*attachments, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { // as the library makes it
		return nil, fmt.Errorf("attachments of pods: %w", err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("attachments of pods: %w", err)
	}
	a := &attachments{dir: dir, fs: w, files: map[string]attachment{}}
	if err := w.Add(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("attachments of pods: %w", err), w.Close())
	}
	if err := a.readAll(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return a, nil
}

// follow calls changed after every change, until ctx is done.
func (a *attachments) follow(ctx context.Context, changed func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-a.fs.Events:
			if a.read(e.Name) {
				changed()
			}
		case err := <-a.fs.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("attachments of pods: %w", err)
			}
			if err := a.readAll(); err != nil {
				return err
			}
			changed()
		}
	}
}

func (a *attachments) close() { _ = a.fs.Close() } // nothing is written

func (a *attachments) readAll() error {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return fmt.Errorf("attachments of pods: %w", err)
	}
	a.mu.Lock()
	a.files = map[string]attachment{}
	a.mu.Unlock()
	for _, e := range entries {
		a.read(filepath.Join(a.dir, e.Name()))
	}
	return nil
}

// read takes in a file that was written or is gone, and reports whether that
// changed anything. One that is half written is read again when the rest is there.
func (a *attachments) read(path string) bool {
	found, err := readAttachment(path)
	a.mu.Lock()
	defer a.mu.Unlock()
	before, had := a.files[path]
	switch {
	case err == nil:
		a.files[path] = found
		return !had || before.uid != found.uid || !slices.Equal(before.addresses, found.addresses)
	case errors.Is(err, fs.ErrNotExist):
		delete(a.files, path)
		return had
	}
	return false
}

func readAttachment(path string) (attachment, error) {
	f, err := os.Open(path)
	if err != nil {
		return attachment{}, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return attachment{}, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxAttachmentBytes))
	if err != nil {
		return attachment{}, err
	}
	a, err := parseAttachment(content)
	a.written = info.ModTime()
	return a, err
}

// parseAttachment reads a record of libcni's cache.
func parseAttachment(content []byte) (attachment, error) {
	var record struct {
		Args   [][2]string `json:"cniArgs"`
		Result struct {
			IPs []struct {
				Address string `json:"address"`
			} `json:"ips"`
		} `json:"result"`
	}
	if err := json.Unmarshal(content, &record); err != nil {
		return attachment{}, err
	}
	var a attachment
	for _, arg := range record.Args {
		if arg[0] == "K8S_POD_UID" {
			a.uid = arg[1]
		}
	}
	for _, ip := range record.Result.IPs {
		prefix, err := netip.ParsePrefix(ip.Address)
		if err != nil {
			return attachment{}, fmt.Errorf("address %q: %w", ip.Address, err)
		}
		a.addresses = append(a.addresses, prefix.Addr().Unmap())
	}
	if a.uid == "" || len(a.addresses) == 0 {
		return attachment{}, errors.New("is no pod's attachment")
	}
	return a, nil
}

// addresses returns a snapshot: the addresses of a pod by its UID, nil if unknown.
// An address in two files is the younger one's.
func (a *attachments) addresses() func(uid string) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	latest := map[netip.Addr]attachment{}
	for _, one := range a.files {
		for _, addr := range one.addresses {
			if before, taken := latest[addr]; !taken || before.written.Before(one.written) {
				latest[addr] = one
			}
		}
	}
	byPod := map[string][]netip.Addr{}
	for addr, one := range latest {
		byPod[one.uid] = append(byPod[one.uid], addr)
	}
	return func(uid string) []netip.Addr { return byPod[uid] }
}
