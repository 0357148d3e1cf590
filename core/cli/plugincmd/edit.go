package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/localapi"
	"github.com/cleat-dev/cleat/core/pluginhost"
)

// editor is one run of a command that changes entries of a lock file.
type editor struct {
	*command
	lock *pluginhost.Lock
	out  *printer
}

// edit opens the lock file for a change.
func (c *command) edit(out *printer) (*editor, error) {
	if c.lockFile == "" {
		return nil, errors.New("the embedded lock cannot be changed; name a file with --plugins-lock " +
			"(`cleat plugin list -o lock` writes one to begin with)")
	}
	lock, _, err := c.readLock()
	if err != nil {
		return nil, err
	}
	return &editor{command: c, lock: lock, out: out}, nil
}

// find returns the entry of that name that is no shadow.
func (e *editor) find(name string) (*pluginhost.LockedPlugin, error) {
	if entry := e.lock.Find(name); entry != nil {
		return entry, nil
	}
	return nil, fmt.Errorf("%s has no plugin %q; it has %s", e.lockFile, name, names(e.lock, false))
}

// findShadow returns the shadow of that name.
func (e *editor) findShadow(name string) (*pluginhost.LockedPlugin, error) {
	if _, err := e.find(name); err != nil {
		return nil, err
	}
	if entry := e.lock.FindShadow(name); entry != nil {
		return entry, nil
	}
	return nil, fmt.Errorf("%s has no shadow of %s; it has shadows of %s, and `cleat plugin lock --shadow FILE.wasm` makes one",
		e.lockFile, name, names(e.lock, true))
}

// maxNames is how many plugins an error names.
const maxNames = 20

// names lists the plugins or the shadows of a lock, in its order.
func names(lock *pluginhost.Lock, shadows bool) string {
	var all []string
	for _, p := range lock.Plugins {
		if p.Shadow == shadows {
			all = append(all, p.Name)
		}
	}
	switch n := len(all) - maxNames; {
	case len(all) == 0:
		return "none"
	case n > 0:
		return fmt.Sprintf("%s and %d more (`cleat plugin list`)", strings.Join(all[:maxNames], ", "), n)
	}
	return strings.Join(all, ", ")
}

// save writes the lock, says what was done, and makes the server on this machine
// follow, if there is one.
func (e *editor) save(ctx context.Context, done ...string) error {
	text, err := e.lock.Marshal()
	if err != nil {
		return err
	}
	if err := replaceFile(e.lockFile, text); err != nil {
		return err
	}
	for _, line := range done {
		e.out.linef("%s", line)
	}
	err = e.reloadServer(ctx, e.out)
	var gone *localapi.Unreachable
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gone) && !errors.Is(gone.Err, fs.ErrPermission):
		e.out.linef("no server runs here; it takes effect at the next start")
		return e.out.err
	}
	return fmt.Errorf("%s is changed, but the server does not follow it: %w", e.lockFile, err)
}

// title is what a message calls an entry.
func title(p *pluginhost.LockedPlugin) string {
	text := p.Name + " " + p.Version
	if p.Shadow {
		text += " (shadow)"
	}
	return text
}
