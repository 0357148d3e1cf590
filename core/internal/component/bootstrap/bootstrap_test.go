package bootstrap

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// machine is one server: a data directory and its options.
type machine struct {
	t     *testing.T
	data  paths.Data
	store Store
	opts  config.Options
}

func newMachine(t *testing.T, store Store, tok string) *machine {
	return &machine{t: t, data: paths.Data(filepath.Join(t.TempDir(), "data")), store: store, opts: config.Options{Token: tok}}
}

// start runs bootstrap until it is ready or fails.
func (m *machine) start() (Result, error) {
	b := New(Options{
		Config: &config.Config{Options: m.opts}, Data: m.data, Log: slog.New(slog.DiscardHandler),
		Store: func() (Store, error) { return struct{ Store }{m.store}, nil }, // stays open for the next start
	})
	b.rounds = minRounds
	if _, err := b.Result(); err == nil {
		m.t.Error("a result before ready")
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	if err := b.Run(ctx, cancel); err != nil {
		return Result{}, err
	}
	return b.Result()
}

func (m *machine) must() Result {
	m.t.Helper()
	r, err := m.start()
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// tree is every file below the data directory with its mode and content.
func (m *machine) tree() map[string]string {
	all := map[string]string{}
	err := filepath.WalkDir(string(m.data), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, string(m.data))] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), string(text))
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return all
}

// refused starts and wants an error with all of words, and disk and datastore
// as they were.
func (m *machine) refused(words ...string) {
	m.t.Helper()
	disk := m.tree()
	var kept map[string]entry
	if mem, ok := m.store.(*memory); ok {
		kept = mem.copy()
	}
	_, err := m.start()
	if err == nil {
		m.t.Fatalf("it started; want an error with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			m.t.Errorf("error %q lacks %q", err, w)
		}
	}
	if now := m.tree(); !reflect.DeepEqual(disk, now) {
		m.t.Errorf("the refusal changed the disk: %d files before, %d after", len(disk), len(now))
	}
	if mem, ok := m.store.(*memory); ok && !reflect.DeepEqual(kept, mem.copy()) {
		m.t.Error("the refusal changed the datastore")
	}
}

func same(t *testing.T, a, b Result) {
	t.Helper()
	if !reflect.DeepEqual(a.Identity.Files(), b.Identity.Files()) || a.Token != b.Token {
		t.Error("two different identities")
	}
}

func TestFirstStartAndRestart(t *testing.T) {
	m := newMachine(t, newMemory(), "")
	first := m.must()
	if !first.New || first.Token.Username != token.UserServer || len(first.Token.Password) != 32 {
		t.Errorf("first start: new %v, token %v", first.New, first.Token)
	}
	if err := first.Token.CheckCA(first.Identity.Server.CertPEM()); err != nil || first.Token.CAHash == "" {
		t.Errorf("the token does not fit the CA: %v", err)
	}
	for path, mode := range map[string]fs.FileMode{
		m.data.Token(): 0o600, m.data.NodeToken(): 0o600, m.data.AgentToken(): 0o600,
		m.data.TLS(pki.ServerCAKey): 0o600, m.data.TLS(pki.ServiceAccountKey): 0o600,
		m.data.TLS(pki.ServerCACert): 0o644, m.data.TLS(""): fs.ModeDir | 0o700, m.data.Server(): fs.ModeDir | 0o700,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", path, info, err, mode)
		}
	}
	if text, err := os.ReadFile(m.data.NodeToken()); err != nil || strings.TrimSpace(string(text)) != first.Token.Format() {
		t.Errorf("node-token: %v", err)
	}
	before := m.tree()
	again := m.must()
	same(t, first, again)
	if again.New || !reflect.DeepEqual(before, m.tree()) {
		t.Error("a restart changed something")
	}
}

func TestSecondMachineTakesOver(t *testing.T) {
	store := newMemory()
	one := newMachine(t, store, "s3cret").must()
	for name, tok := range map[string]string{"short": "s3cret", "full": one.Token.Format(), "node": strings.Replace(one.Token.Format(), "server:", "node:", 1)} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, store, tok)
			same(t, one, m.must())
			m.opts.Token = "" // it is on disk now
			same(t, one, m.must())
		})
	}
	t.Run("file", func(t *testing.T) {
		m := newMachine(t, store, "s3cret")
		m.opts.TokenFile = "/etc/secret" // which the configuration has read
		same(t, one, m.must())
	})
}

func TestWrongTokenTouchesNothing(t *testing.T) {
	store := newMemory()
	one := newMachine(t, store, "right")
	one.must()
	names := []string{"already belongs to a cluster", "--token", "--token-file", "CLEAT_TOKEN"}

	newMachine(t, store, "wrong").refused(append(names, "from --token:")...)
	newMachine(t, store, "").refused(append(names, "no token was given")...)
	// Not even a machine that has been a member.
	one.opts.Token = "wrong"
	one.refused(names...)
	// The right password with another cluster's hash.
	other := newMachine(t, newMemory(), "right").must()
	newMachine(t, store, other.Token.Format()).refused("another cluster's", "--token")
}

func TestForeignDatastores(t *testing.T) {
	for key, want := range map[string]string{
		"/bootstrap/e3b0c44298fc":     "/bootstrap/e3b0c44298fc",
		"/registry/namespaces/system": "no bootstrap record",
	} {
		store := newMemory()
		store.put(key, []byte("x"))
		newMachine(t, store, "s3cret").refused(want, "--datastore-endpoint")
	}
	for record, want := range map[string]string{
		"garbage":       "not a record of cleat's",
		"{}":            "version 0",
		`{"version":2}`: "start the version that wrote it",
		`{"version":1,"kdf":"pbkdf2-hmac-sha256","rounds":1}`: "not known",
	} {
		store := newMemory()
		store.put(recordKey, []byte(record))
		newMachine(t, store, "s3cret").refused(want)
	}
}

func TestBadTokens(t *testing.T) {
	for tok, want := range map[string]string{
		"abcdef.0123456789abcdef": "cluster's own token",
		"K10nonsense":             "token from --token",
		"K10" + strings.Repeat("0", 64) + "::server:x": "the datastore is empty",
	} {
		newMachine(t, newMemory(), tok).refused(want)
	}
	m := newMachine(t, newMemory(), "K10nonsense")
	m.opts.TokenFile = "/etc/secret"
	m.refused("token from --token-file")
	m = newMachine(t, newMemory(), "")
	if err := os.MkdirAll(m.data.Server(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.data.Token(), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	m.refused("5000 bytes")
	m = newMachine(t, newMemory(), "x")
	for tok, want := range map[string]string{
		"abcdef.0123456789abcdef": "form of a bootstrap token",
		"K10nonsense":             "token from --agent-token",
	} {
		m.opts.AgentToken = tok
		m.refused(want)
	}
}

func TestDiskAndDatastore(t *testing.T) {
	store := newMemory()
	m := newMachine(t, store, "s3cret")
	first := m.must()

	t.Run("an emptied datastore gets the disk's identity", func(t *testing.T) {
		empty := newMemory()
		m.store = empty
		r := m.must()
		same(t, first, r)
		if _, ok := empty.copy()[recordKey]; r.New || !ok {
			t.Errorf("new %v, record %v", r.New, ok)
		}
		same(t, first, newMachine(t, empty, "s3cret").must())
		m.store = store
	})
	t.Run("a record changed behind the disk's back is opened", func(t *testing.T) {
		other := newMemory()
		newMachine(t, other, "s3cret").must()
		record, _, err := other.Get(t.Context(), recordKey)
		if err != nil {
			t.Fatal(err)
		}
		swapped := newMemory()
		swapped.put(recordKey, record)
		m.store = swapped
		m.refused("differ")
		m.store = store
	})
	t.Run("a lost stamp is no loss", func(t *testing.T) {
		if err := os.Remove(m.data.TLS(stampFile)); err != nil {
			t.Fatal(err)
		}
		same(t, first, m.must())
		before := m.tree()
		same(t, first, m.must())
		if !reflect.DeepEqual(before, m.tree()) {
			t.Error("the second start wrote")
		}
	})
	t.Run("missing files come back", func(t *testing.T) {
		for _, name := range []string{pki.ClientCAKey, pki.ServiceAccountKey} {
			if err := os.Remove(m.data.TLS(name)); err != nil {
				t.Fatal(err)
			}
		}
		same(t, first, m.must())
	})
	t.Run("a different file is refused by name", func(t *testing.T) {
		path := m.data.TLS(pki.ServiceAccountKey)
		keep, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, key, 0o600); err != nil {
			t.Fatal(err)
		}
		m.refused(path, "differ")
		if err := os.WriteFile(path, keep, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a part of an identity does not found a cluster", func(t *testing.T) {
		m.store = newMemory()
		if err := os.Remove(m.data.TLS(pki.ServerCAKey)); err != nil {
			t.Fatal(err)
		}
		m.refused(pki.ServerCAKey, "missing")
	})
	t.Run("a foreign identity does not join", func(t *testing.T) {
		stranger := newMachine(t, newMemory(), "s3cret")
		stranger.must()
		stranger.store, stranger.opts.Token = store, "s3cret"
		stranger.refused("differ", stranger.data.TLS(pki.ServerCACert))
	})
}

// A start that ended between writing its made-up token and storing the record.
func TestTokenWithoutCluster(t *testing.T) {
	dead := newMachine(t, newMemory(), "").must()
	m := newMachine(t, newMemory(), "")
	if err := writeToken(m.data.Token(), dead.Token); err != nil {
		t.Fatal(err)
	}
	r := m.must()
	if r.Token.Password != dead.Token.Password || r.Token.CAHash == dead.Token.CAHash {
		t.Errorf("token %v, want the left one's password and a new hash", r.Token)
	}
	same(t, r, m.must())
}

func TestServersRace(t *testing.T) {
	const servers = 6
	race := func(t *testing.T, tok string) (won, lost []*machine, results []Result) {
		// Nobody creates before everybody has seen that the datastore is empty.
		store := &gate{memory: newMemory(), left: servers, open: make(chan struct{})}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range servers {
			m := newMachine(t, store, tok)
			wg.Go(func() {
				r, err := m.start()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if !strings.Contains(err.Error(), "already belongs") {
						t.Error(err)
					}
					lost = append(lost, m)
					return
				}
				won, results = append(won, m), append(results, r)
			})
		}
		wg.Wait()
		return won, lost, results
	}
	t.Run("one token", func(t *testing.T) {
		won, _, results := race(t, "s3cret")
		if len(won) != servers {
			t.Fatalf("%d of %d started", len(won), servers)
		}
		founders := 0
		for _, r := range results {
			same(t, results[0], r)
			if r.New {
				founders++
			}
		}
		if founders != 1 {
			t.Errorf("%d founders", founders)
		}
	})
	t.Run("made-up tokens", func(t *testing.T) {
		won, lost, _ := race(t, "")
		if len(won) != 1 {
			t.Fatalf("%d started, want 1", len(won))
		}
		for _, m := range lost {
			if files := m.tree(); len(files) != 0 {
				t.Errorf("a loser left %d files", len(files))
			}
		}
	})
}

func TestStoreFailures(t *testing.T) {
	for _, call := range []string{"get", "list", "create"} {
		m := newMachine(t, &broken{memory: newMemory(), call: call}, "s3cret")
		m.refused("no route to " + call)
	}
	// What was made up may have been stored: the token must survive.
	m := newMachine(t, &broken{memory: newMemory(), call: "create"}, "")
	if _, err := m.start(); err == nil {
		t.Fatal("it started")
	}
	if files := m.tree(); len(files) != 1 {
		t.Errorf("%d files, want the token alone", len(files))
	}
}

type closer struct {
	*memory
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestStoreIsClosed(t *testing.T) {
	c := &closer{memory: newMemory()}
	for want, tok := range []string{1: "right", 2: "wrong"} {
		if tok == "" {
			continue
		}
		ctx, cancel := context.WithCancel(t.Context())
		b := New(Options{
			Config: &config.Config{Options: config.Options{Token: tok}}, Data: paths.Data(t.TempDir()), Log: slog.New(slog.DiscardHandler),
			Store: func() (Store, error) { return c, nil },
		})
		if err := b.Run(ctx, cancel); (err == nil) != (tok == "right") || c.closed != want {
			t.Errorf("%s: %v, closed %d times, want %d", tok, err, c.closed, want)
		}
		cancel()
	}
}

func TestExpiredIdentityIsRefused(t *testing.T) {
	m := newMachine(t, newMemory(), "s3cret")
	m.must()
	b := New(Options{
		Config: &config.Config{Options: m.opts}, Data: m.data, Log: slog.New(slog.DiscardHandler),
		Store: func() (Store, error) { return m.store, nil },
		Now:   func() time.Time { return time.Now().Add(pki.AuthorityLife + time.Hour) },
	})
	if err := b.Run(t.Context(), func() { t.Error("ready") }); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v", err)
	}
}
