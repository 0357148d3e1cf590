package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleTime is how long a file must stay as it is before it is read: an
// archive is copied into the directory piece by piece.
const settleTime = time.Second

// watcher reports the archives of a directory that appear or change.
type watcher struct {
	dir string
	fs  *fsnotify.Watcher
}

func watch(dir string) (*watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	if err := fs.Add(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), fs.Close())
	}
	return &watcher{dir: dir, fs: fs}, nil
}

func (w *watcher) Close() error { return w.fs.Close() }

// follow calls changed with the name of each archive that has settled. It
// returns nil when ctx is done.
func (w *watcher) follow(ctx context.Context, changed func(name string)) error {
	pending := map[string]pendingFile{}
	tick := time.NewTicker(settleTime / 4)
	defer tick.Stop()
	for {
		var ticks <-chan time.Time
		if len(pending) > 0 {
			ticks = tick.C
		}
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-w.fs.Events:
			if !ok {
				return fmt.Errorf("watch %s: ended", w.dir)
			}
			if event.Has(fsnotify.Remove|fsnotify.Rename) && event.Name == w.dir {
				if err := errors.Join(w.restore(), w.all(pending)); err != nil {
					return err
				}
				continue
			}
			if name := filepath.Base(event.Name); isArchive(name) {
				pending[name] = pendingFile{since: time.Now()}
			}
		case err, ok := <-w.fs.Errors:
			if !ok {
				return fmt.Errorf("watch %s: ended", w.dir)
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", w.dir, err)
			}
			// Events were lost: look at everything.
			if err := w.all(pending); err != nil {
				return err
			}
		case now := <-ticks:
			for name, p := range pending {
				switch p = p.look(filepath.Join(w.dir, name), now); {
				case p.gone:
					delete(pending, name)
				case now.Sub(p.since) >= settleTime:
					delete(pending, name)
					changed(name)
				default:
					pending[name] = p
				}
			}
		}
	}
}

// all makes every archive there is pending.
func (w *watcher) all(pending map[string]pendingFile) error {
	names, err := archives(w.dir)
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.dir, err)
	}
	for _, name := range names {
		pending[name] = pendingFile{since: time.Now()}
	}
	return nil
}

// restore makes the directory again after somebody removed it.
func (w *watcher) restore() error {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return fmt.Errorf("watch %s: %w", w.dir, err)
	}
	if err := w.fs.Add(w.dir); err != nil {
		return fmt.Errorf("watch %s: %w", w.dir, err)
	}
	return nil
}

// pendingFile is an archive that may still grow.
type pendingFile struct {
	since time.Time // of the last change seen
	size  int64
	mod   time.Time
	gone  bool
}

func (p pendingFile) look(path string, now time.Time) pendingFile {
	info, err := os.Stat(path)
	if err != nil {
		return pendingFile{gone: true}
	}
	if info.Size() != p.size || !info.ModTime().Equal(p.mod) {
		return pendingFile{since: now, size: info.Size(), mod: info.ModTime()}
	}
	return p
}
