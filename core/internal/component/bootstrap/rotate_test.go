package bootstrap

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// running is a server on m whose bootstrap is ready; it ends with the test.
func running(t *testing.T, m *machine) *Bootstrap {
	t.Helper()
	b := New(Options{
		Config: &config.Config{Options: m.opts}, Data: m.data, Log: slog.New(slog.DiscardHandler),
		Store: func() (Store, error) { return struct{ Store }{m.store}, nil },
	})
	b.rounds = minRounds
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- b.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func tokenFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestRotate(t *testing.T) {
	store := newMemory()
	m := newMachine(t, store, "")
	b := running(t, m)
	before, err := b.Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Rotate(t.Context(), token.Token{Password: "chosen"}); err != nil {
		t.Fatal(err)
	}
	after, err := b.Result()
	if err != nil || after.Token.Password != "chosen" || after.Token.CAHash != before.Token.CAHash || after.Token.Username != token.UserServer {
		t.Errorf("after the rotation the token is %v, %v", after.Token, err)
	}
	for _, path := range []string{m.data.Token(), m.data.NodeToken(), m.data.AgentToken()} {
		if got := tokenFile(t, path); got != after.Token.Format() {
			t.Errorf("%s is not the new token", path)
		}
	}
	if _, err := os.Stat(m.data.NextToken()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stayed: %v", m.data.NextToken(), err)
	}
	// The datastore knows the new token alone, and this machine its file's.
	newMachine(t, store, before.Token.Format()).refused("another token")
	same(t, after, newMachine(t, store, "chosen").must())
	same(t, after, m.must())
	// Another rotation, by the full form, of a server that was not restarted.
	again := after.Token
	again.Password = "third"
	if err := b.Rotate(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	newMachine(t, store, "chosen").refused("another token")
	newMachine(t, store, "third").must()
}

func TestRotateRefuses(t *testing.T) {
	store := newMemory()
	m := newMachine(t, store, "s3cret")
	b := running(t, m)
	other := newMachine(t, newMemory(), "x").must()
	kept, disk := store.copy(), m.tree()
	for want, next := range map[string]token.Token{
		"is empty":                  {},
		"is the one in force":       {Password: "s3cret"},
		"form of a bootstrap token": {Username: "abcdef", Password: "0123456789abcdef", Bootstrap: true},
		"another cluster's":         {CAHash: other.Token.CAHash, Username: "server", Password: "new"},
	} {
		if err := b.Rotate(t.Context(), next); !errors.Is(err, token.ErrNew) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", next, err, want)
		}
	}
	if len(kept) != len(store.copy()) || kept[recordKey] != store.copy()[recordKey] || len(disk) != len(m.tree()) {
		t.Error("a refusal changed something")
	}
}

// The other server of a cluster takes over what the first was told, and nothing else.
func TestRotateOnTwoServers(t *testing.T) {
	store := newMemory()
	one, two := newMachine(t, store, "s3cret"), newMachine(t, store, "s3cret")
	first, second := running(t, one), running(t, two)
	if err := first.Rotate(t.Context(), token.Token{Password: "next"}); err != nil {
		t.Fatal(err)
	}
	kept := store.copy()[recordKey]
	if err := second.Rotate(t.Context(), token.Token{Password: "other"}); !errors.Is(err, token.ErrNew) || !strings.Contains(err.Error(), "rotate to the token of the server") {
		t.Errorf("a second token: %v", err)
	}
	if err := second.Rotate(t.Context(), token.Token{Password: "next"}); err != nil {
		t.Fatal(err)
	}
	if store.copy()[recordKey] != kept {
		t.Error("the second server wrote a record")
	}
	two.opts.Token = ""
	a, err := first.Result()
	if err != nil {
		t.Fatal(err)
	}
	same(t, a, two.must())
}

// A server that died in the middle of a rotation starts with whichever token the
// record is sealed with.
func TestRotationCutOff(t *testing.T) {
	store := newMemory()
	m := newMachine(t, store, "")
	before := m.must()
	next := before.Token
	next.Password = "next"
	if err := writeToken(m.data.NextToken(), next); err != nil {
		t.Fatal(err)
	}
	early := m.must() // died before the record was written
	same(t, before, early)
	if _, err := os.Stat(m.data.NextToken()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stayed: %v", m.data.NextToken(), err)
	}

	if err := writeToken(m.data.NextToken(), next); err != nil {
		t.Fatal(err)
	}
	record, err := seal(before.Identity, next.Password, minRounds)
	if err != nil {
		t.Fatal(err)
	}
	store.put(recordKey, record)
	late := m.must() // died after
	if late.Token != next || tokenFile(t, m.data.Token()) != next.Format() {
		t.Errorf("the token is %v, want the new one", late.Token)
	}
	same(t, late, m.must())

	// A new token that cannot be read is named.
	if err := atomicfile.WriteFile(m.data.NextToken(), []byte("K10nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.refused(m.data.NextToken())
}

// When the datastore fails, the server goes on with the old token, and the next
// start finds out which it is.
func TestRotateWithoutDatastore(t *testing.T) {
	store := &broken{memory: newMemory()}
	m := newMachine(t, store, "")
	b := running(t, m)
	store.call = "update"
	if err := b.Rotate(t.Context(), token.Token{Password: "next"}); err == nil || errors.Is(err, token.ErrNew) {
		t.Errorf("%v, want the datastore's error", err)
	}
	have, err := b.Result()
	if err != nil || have.Token.Password == "next" {
		t.Errorf("%v, %v", have.Token, err)
	}
	store.call = ""
	same(t, have, m.must())
}

func TestAgentToken(t *testing.T) {
	store := newMemory()
	m := newMachine(t, store, "s3cret")
	if r := m.must(); r.Agent != (token.Token{}) || tokenFile(t, m.data.AgentToken()) != r.Token.Format() {
		t.Errorf("without one: %v", r.Agent)
	}
	m.opts.AgentToken = "for-agents"
	r := m.must()
	if r.Agent.Username != token.UserNode || r.Agent.Password != "for-agents" || r.Agent.CAHash != r.Token.CAHash {
		t.Errorf("%v", r.Agent)
	}
	info, err := os.Lstat(m.data.AgentToken())
	if err != nil || info.Mode() != 0o600 || tokenFile(t, m.data.AgentToken()) != r.Agent.Format() || tokenFile(t, m.data.NodeToken()) != r.Token.Format() {
		t.Errorf("%v, %v", info, err)
	}
	same(t, r, m.must())
	// In full, as its file has it.
	m.opts.AgentToken = r.Agent.Format()
	m.must()
	// It opens no record.
	newMachine(t, store, r.Agent.Format()).refused("another token")
	other := newMachine(t, newMemory(), "x").must()
	m.opts.AgentToken = other.Token.Format()
	m.refused("--agent-token", "another cluster's")
	m.opts.AgentToken = ""
	if r := m.must(); tokenFile(t, m.data.AgentToken()) != r.Token.Format() {
		t.Error("the file of an agents' token that is no more stayed")
	}
}
