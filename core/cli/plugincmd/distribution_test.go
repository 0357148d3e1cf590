package plugincmd

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/core/pluginregistry/registrytest"
	"github.com/spf13/cobra"
)

// shop is a registry and a directory of keys, and runs the commands that deal
// with them.
type shop struct {
	*bench
	reg        *registrytest.Registry
	registries string
	keys       string
}

func newShop(t *testing.T) *shop {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv(passwordVariable, "pw")
	s := &shop{bench: newBench(t), reg: registrytest.Start(t, registrytest.Options{}), keys: t.TempDir()}
	s.registries = s.file("registries.yaml", registrytest.Mirrors(s.reg))
	return s
}

func (s *shop) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(filepath.Dir(s.lock), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// do runs one command with its own flags.
func (s *shop) do(make func(*command) *cobra.Command, args ...string) (string, error) {
	s.t.Helper()
	var out bytes.Buffer
	cmd := make(&command{Deps: s.deps, lockFile: s.lock})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	for _, flag := range [][2]string{{"private-registry", s.registries}, {"keys-dir", s.keys}, {"images-dir", filepath.Join(s.dir, "..", "images")}} {
		if cmd.Flags().Lookup(flag[0]) != nil {
			args = append(args, "--"+flag[0], flag[1])
		}
	}
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetIn(strings.NewReader(""))
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(s.t.Context())
	return out.String(), err
}

func (s *shop) ok(make func(*command) *cobra.Command, args ...string) string {
	s.t.Helper()
	out, err := s.do(make, args...)
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func (s *shop) fails(make func(*command) *cobra.Command, want string, args ...string) {
	s.t.Helper()
	if out, err := s.do(make, args...); err == nil || !strings.Contains(err.Error(), want) {
		s.t.Errorf("%v: %v, want %q in it\n%s", args, err, want, out)
	}
}

// newKey makes a pair and returns its private and public file and its signer.
func (s *shop) newKey(name string) (private, public, signer string) {
	s.t.Helper()
	prefix := filepath.Join(s.t.TempDir(), name)
	out := s.ok((*command).sign, "--generate-key", prefix)
	return prefix + ".key", prefix + ".pub", valueOf(s.t, out, "signer")
}

// trust puts a public key among the trusted ones.
func (s *shop) trust(public string) {
	s.t.Helper()
	text, err := os.ReadFile(public)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.keys, filepath.Base(public)), text, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// valueOf finds a line like key = 'value'.
func valueOf(t *testing.T, text, key string) string {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, key+" = '"); ok {
			return strings.TrimSuffix(rest, "'")
		}
	}
	t.Fatalf("no %s in:\n%s", key, text)
	return ""
}

// lockOf writes a lock of these plugins, by source.
func (s *shop) lockOf(entries ...pluginhost.LockedPlugin) {
	s.t.Helper()
	lock := pluginhost.Lock{Version: pluginhost.LockVersion}
	for i, e := range entries {
		e.Order = 10 * (i + 1)
		lock.Plugins = append(lock.Plugins, e)
	}
	s.write(&lock)
}

func entry(t *testing.T, g guesttest.Guest, source, signer string) pluginhost.LockedPlugin {
	t.Helper()
	ins, err := pluginhost.Inspect(g.Wasm())
	if err != nil {
		t.Fatal(err)
	}
	p, err := pluginhost.Propose(ins, source, 10)
	if err != nil {
		t.Fatal(err)
	}
	p.Signer = signer
	return p
}

// open opens a host as a server without a network does.
func (s *shop) open(cache string) (*pluginhost.Host, error) {
	keys, err := pluginregistry.ReadPublicKeys(s.keys)
	if err != nil {
		return nil, err
	}
	source := &pluginregistry.Source{Store: pluginregistry.StoreIn(s.dir), PluginsDir: s.dir, Keys: keys}
	return pluginhost.Open(s.t.Context(), pluginhost.Options{
		LockFile: s.lock, PluginsDir: s.dir, CacheDir: cache, OCI: source.Read,
		VerifySigner: func(_ context.Context, locked pluginhost.LockedPlugin, wasm []byte) error {
			return source.VerifySigner(locked.Source, locked.Signer, wasm)
		},
	})
}

func TestPushSignPull(t *testing.T) {
	s := newShop(t)
	file := s.put("policy.wasm", policy())
	where := "oci://" + s.reg.Host + "/plugins/policy:1.0.0"
	pushed := s.ok((*command).push, file, where)
	source := valueOf(t, pushed, "source")
	wantWords(t, pushed, "policy 1.0.0", "manifest   sha256:", "sha256     "+pluginhost.Digest(policy().Wasm()))
	if !strings.HasPrefix(source, "oci:"+s.reg.Host+"/plugins/policy:1.0.0@sha256:") {
		t.Errorf("source %s", source)
	}
	if again := s.ok((*command).push, file, where); again != pushed {
		t.Errorf("pushed again:\n%s", again)
	}
	wantWords(t, s.ok((*command).pull, where), "signed by  nobody", "source = '"+source+"'", filepath.Join(s.dir, "oci", "sha256-"))

	private, public, signer := s.newKey("vendor")
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", info, err)
	}
	s.fails((*command).pull, "no signature by a trusted key: it is not signed at all", where, "--key", public)
	wantWords(t, s.ok((*command).sign, where, "--key", private), "signed "+strings.TrimPrefix(source, "oci:"), "signer = '"+signer+"'")
	wantWords(t, s.ok((*command).sign, where, "--key", private), "was signed by this key before")
	wantWords(t, s.ok((*command).pull, where), "signed by  none of the 0 keys in "+s.keys)
	wantWords(t, s.ok((*command).pull, where, "--key", public), "signed by  "+signer)
	s.trust(public)
	wantWords(t, s.ok((*command).pull, where), "signed by  "+signer)
	_, other, _ := s.newKey("other")
	s.fails((*command).pull, "1 signatures, by other keys", where, "--key", other)

	// To a file, by digest, and not into the store.
	to := filepath.Join(t.TempDir(), "out.wasm")
	s.ok((*command).pull, "oci://"+strings.TrimPrefix(source, "oci:"), "-o", to)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, policy().Wasm()) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestPushReport(t *testing.T) {
	s := newShop(t)
	file, where := s.put("policy.wasm", policy()), "oci://"+s.reg.Host+"/policy:1"
	report, err := conformance.Check(t.Context(), policy().Wasm())
	if err != nil {
		t.Fatal(err)
	}
	text, err := report.YAML()
	if err != nil {
		t.Fatal(err)
	}
	path := s.file("report.yaml", string(text))
	wantWords(t, s.ok((*command).push, file, where, "--report", path), "report     "+pluginhost.Digest(text))
	s.ok((*command).pull, where)
	kept := pluginregistry.StoreIn(s.dir)
	digests, err := kept.Digests()
	if err != nil || len(digests) != 1 {
		t.Fatal(digests, err)
	}
	if reports, err := kept.Reports(digests[0]); err != nil || string(reports[pluginhost.Digest(text)]) != string(text) {
		t.Errorf("reports %v, %v", reports, err)
	}
	s.fails((*command).push, "is about the plugin with SHA-256", s.put("store.wasm", store()), where, "--report", path)
	s.fails((*command).push, "conformance report: format", file, where, "--report", s.file("bad.yaml", "{}"))
}

func TestSignRefuses(t *testing.T) {
	s := newShop(t)
	private, public, _ := s.newKey("vendor")
	s.fails((*command).sign, "name what to sign")
	s.fails((*command).sign, "--key: name the private key", "x.wasm")
	s.fails((*command).sign, "signs nothing", "x.wasm", "--generate-key", "y")
	s.fails((*command).sign, "file exists", "--generate-key", strings.TrimSuffix(private, ".key"))
	s.fails((*command).sign, "cannot be read", "x.wasm", "--key", public)
	s.fails((*command).sign, "no such file", filepath.Join(s.dir, "absent.wasm"), "--key", private)
	if err := os.Unsetenv(passwordVariable); err != nil {
		t.Fatal(err)
	}
	s.fails((*command).sign, "the key needs a password: set $COSIGN_PASSWORD", "x.wasm", "--key", private)
	s.fails((*command).sign, "a wrong password?", "x.wasm", "--key", private, "--password-file", s.file("wrong", "no\n"))
	file := s.put("policy.wasm", policy())
	s.ok((*command).sign, file, "--key", private, "--password-file", s.file("right", "pw\n"))
	if err := os.Chmod(private, 0o644); err != nil {
		t.Fatal(err)
	}
	wantWords(t, s.ok((*command).sign, file, "--key", private, "--password-file", filepath.Join(filepath.Dir(s.lock), "right")), "chmod 600 it")
}

// A lock is bundled where there is a network and installed where there is none.
func TestBundleInstall(t *testing.T) {
	s := newShop(t)
	private, public, signer := s.newKey("vendor")
	s.trust(public)
	where := "oci://" + s.reg.Host + "/plugins/policy:1.0.0"
	source := valueOf(t, s.ok((*command).push, s.put("policy.wasm", policy()), where), "source")
	s.ok((*command).sign, where, "--key", private)
	file := s.put("store.wasm", store())
	s.ok((*command).sign, file, "--key", private)
	s.lockOf(entry(t, policy(), source, signer), entry(t, store(), "file:store.wasm", signer))
	images := s.file("images.tar.zst", "images")

	archive := filepath.Join(t.TempDir(), "plugins.tar.zst")
	out := s.ok((*command).bundle, "-o", archive, "--images", images, "--key", private)
	wantWords(t, out, "policy 1.0.0: "+source, "store 1.0.0: file:store.wasm", "written, 12 files", "signed "+archive)
	first, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	s.ok((*command).bundle, "-o", archive+"2", "--images", images)
	if second, err := os.ReadFile(archive + "2"); err != nil || !bytes.Equal(first, second) {
		t.Errorf("two bundles of one lock differ: %v", err)
	}

	s.reg.Stop()
	far := newShop(t)
	far.reg.Stop()
	far.fails((*command).install, "no public key with the fingerprint", archive)
	untouched(t, far)
	far.trust(public)
	out = far.ok((*command).install, archive)
	wantWords(t, out, "policy 1.0.0\n", "  + write_paths: metadata.labels", "vouched for by "+signer,
		"installed 2 plugins and 1 archives of images", "start the server with --plugins-lock "+far.lock)
	if got, err := os.ReadFile(filepath.Join(far.dir, "..", "images", "images.tar.zst")); err != nil || string(got) != "images" {
		t.Errorf("images: %q, %v", got, err)
	}
	wantWords(t, far.ok((*command).install, archive), "; 0 files changed")

	// The server finds everything, and compiles nothing.
	cache := filepath.Join(far.dir, "cache")
	before := codeIn(t, cache)
	host, err := far.open(cache)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := codeIn(t, cache); len(before) != 4 || !slices.Equal(before, after) {
		t.Errorf("compiled code before %v, after %v", before, after)
	}
	// A signature that is taken away is missed.
	if err := os.Remove(filepath.Join(far.dir, "store.wasm.sig")); err != nil {
		t.Fatal(err)
	}
	if _, err := far.open(""); err == nil || !strings.Contains(err.Error(), "there is no store.wasm.sig beside it") {
		t.Errorf("without the signature: %v", err)
	}
}

// codeIn lists the entries of a compile cache with their times, and the records of
// them, whose times say when they were used.
func codeIn(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if filepath.Ext(path) == ".json" {
			all = append(all, path)
			return nil
		}
		info, err := d.Info()
		all = append(all, path+" "+info.ModTime().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// untouched says that nothing was installed.
func untouched(t *testing.T, s *shop) {
	t.Helper()
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the plugins directory: %v, %v", left, err)
	}
	if _, err := os.Stat(s.lock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
}

func TestInstallVouching(t *testing.T) {
	s := newShop(t)
	private, public, _ := s.newKey("vendor")
	s.put("policy.wasm", policy())
	s.lockOf(entry(t, policy(), "file:policy.wasm", ""))
	archive := filepath.Join(t.TempDir(), "plugins.tar.zst")
	out := s.ok((*command).bundle, "-o", archive)
	_, sum, _ := strings.Cut(out, "sha256     ")
	sum = strings.TrimSpace(sum)

	hasCode := func(far *shop) bool {
		_, err := os.Stat(filepath.Join(far.dir, "cache"))
		return err == nil
	}
	far := newShop(t)
	wantWords(t, far.ok((*command).install, archive), "nobody vouches for the archive", "installed 1 plugins")
	if hasCode(far) {
		t.Error("code that nobody vouches for was installed")
	}
	far = newShop(t)
	far.fails((*command).install, "the archive has the SHA-256 "+sum, archive, "--sha256", strings.Repeat("0", 64))
	far.fails((*command).install, "signature of the archive", archive, "--key", public)
	untouched(t, far)
	wantWords(t, far.ok((*command).install, archive, "--sha256", strings.ToUpper(sum)), "vouched for by --sha256")
	if !hasCode(far) {
		t.Error("code that --sha256 vouches for was left out")
	}
	s.ok((*command).sign, archive, "--key", private)
	far = newShop(t)
	wantWords(t, far.ok((*command).install, archive, "--key", public), "vouched for by key:")
	// A signature by nobody we know is no signature.
	far = newShop(t)
	wantWords(t, far.ok((*command).install, archive), "nobody vouches for the archive")
	// One that does not fit the archive that was asked to be signed is refused.
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(archive, data, 0o644); err != nil {
		t.Fatal(err)
	}
	far = newShop(t)
	far.fails((*command).install, "signature of the archive: no signature by a trusted key", archive, "--key", public)
	far.fails((*command).install, "archive", archive)
	untouched(t, far)
}

func TestInstallKeepsWhatIsThere(t *testing.T) {
	s := newShop(t)
	bundle := func(g guesttest.Guest) string {
		s.put("policy.wasm", g)
		s.lockOf(entry(t, g, "file:policy.wasm", ""))
		archive := filepath.Join(t.TempDir(), "plugins.tar.zst")
		s.ok((*command).bundle, "-o", archive, "--no-compiled-code")
		return archive
	}
	one := bundle(policy())
	newer := policy(func(g *guesttest.Guest) {
		g.Manifest.Version = "2.0.0"
		g.Manifest.Admission.WritePaths = append(g.Manifest.Admission.WritePaths, "metadata.annotations")
	})
	two := bundle(newer)

	far := newShop(t)
	far.ok((*command).install, one)
	old, err := os.ReadFile(far.lock)
	if err != nil {
		t.Fatal(err)
	}
	out, err := far.do((*command).install, two)
	if err == nil || !strings.Contains(err.Error(), "policy.wasm, "+far.lock+": there already and different; nothing was installed") {
		t.Errorf("without --force: %v", err)
	}
	wantWords(t, out, "policy 2.0.0", "  + write_paths: metadata.annotations")
	if now, err := os.ReadFile(far.lock); err != nil || !bytes.Equal(now, old) {
		t.Errorf("the lock changed: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(far.dir, "policy.wasm")); err != nil || !bytes.Equal(got, policy().Wasm()) {
		t.Errorf("the plugin changed: %v", err)
	}
	wantWords(t, far.ok((*command).install, two, "--force"), "2 files changed", "cleat plugin reload")
	if kept, err := os.ReadFile(far.lock + "." + pluginhost.Digest(old)[:12] + ".bak"); err != nil || !bytes.Equal(kept, old) {
		t.Errorf("the old lock: %v", err)
	}
	host, err := far.open("")
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestBundleRefuses(t *testing.T) {
	s := newShop(t)
	archive := filepath.Join(t.TempDir(), "plugins.tar.zst")
	s.put("policy.wasm", policy())
	s.lockOf(entry(t, policy(), "file:policy.wasm", ""))
	s.fails((*command).bundle, "-o: name the archive")
	s.fails((*command).bundle, "--key: open", "-o", archive, "--key", archive+".key")
	s.fails((*command).bundle, "no name for an archive of images", "-o", archive, "--images", "x.zip")
	s.put("policy.wasm", policy(func(g *guesttest.Guest) { g.Manifest.Version = "1.0.1" }))
	s.fails((*command).bundle, `plugins.lock has "1.0.0", the plugin has "1.0.1"`, "-o", archive)
	s.lockOf(entry(t, policy(), "oci:"+s.reg.Host+"/absent:1@sha256:"+strings.Repeat("0", 64), ""))
	s.fails((*command).bundle, "not found: there is no "+s.reg.Host+"/absent:1", "-o", archive)
	if _, err := os.Stat(archive); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an archive was written: %v", err)
	}
}
