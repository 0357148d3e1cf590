package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
)

// Some guests could take the whole process with them. They run in a child: this
// test binary again, told by its environment what to do.
const (
	childWasm    = "HOSTILE_WASM"    // file of the plugin; its presence makes a child
	childTrusted = "HOSTILE_TRUSTED" // "1" lifts the deadline, as the lock's trusted does
	childClose   = "HOSTILE_CLOSE"   // "1" closes the host, impatiently, while the guest is at work
	childCache   = "HOSTILE_CACHE"   // directory of compiled code
	childSpace   = 12 << 30          // bytes of address space; above that it is a bomb
)

func TestMain(m *testing.M) {
	if os.Getenv(childWasm) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// sighting is what a child saw.
type sighting struct {
	OpenError string // why the plugin was refused, "" if it was not
	OpenTook  time.Duration
	Allowed   bool
	Message   string
	CallTook  time.Duration
	WorstGC   time.Duration // the longest garbage collection during the call
	GCs       int
	Peak      int64 // bytes, the largest resident set
	// Left by the parent.
	Died     string // why the child ended without a sighting, "" if it did not
	TimedOut bool   // it said nothing for the time it had
}

// child opens the plugin, sends one request while it collects garbage all the
// time, and says on standard output how that went.
func child() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: childSpace, Max: childSpace}); err != nil {
		return err
	}
	wasm, err := os.ReadFile(os.Getenv(childWasm))
	if err != nil {
		return err
	}
	saw := sighting{}
	begin := time.Now()
	entered := make(chan struct{})
	host, err := openChild(wasm, &logBook{onLine: onceSaid("entered", entered)})
	saw.OpenTook = time.Since(begin)
	if err != nil {
		saw.OpenError = err.Error()
		return saw.print()
	}
	answered := make(chan struct{})
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for {
			begin := time.Now()
			runtime.GC()
			saw.WorstGC = max(saw.WorstGC, time.Since(begin))
			saw.GCs++
			select {
			case <-answered:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	if os.Getenv(childClose) == "1" {
		go func() {
			<-entered
			gone, cancel := context.WithCancel(context.Background())
			cancel()
			_ = host.Close(gone) // says that it gave up
		}()
	}
	begin = time.Now()
	result, err := host.Validate(context.Background(), request("pods"))
	saw.CallTook = time.Since(begin)
	close(answered)
	<-collected
	if err != nil {
		return err
	}
	saw.Allowed, saw.Message = result.Allowed, result.Message
	if err := host.Close(context.Background()); err != nil {
		return err
	}
	return saw.print()
}

// onceSaid closes said when a line of the log holds the text.
func onceSaid(text string, said chan struct{}) func(string) {
	var once sync.Once
	return func(line string) {
		if strings.Contains(line, text) {
			once.Do(func() { close(said) })
		}
	}
}

func openChild(wasm []byte, log *logBook) (*pluginhost.Host, error) {
	text, bundle, err := pluginhost.LockAlone(wasm)
	if err != nil {
		return nil, err
	}
	if os.Getenv(childTrusted) == "1" {
		lock, err := pluginhost.ParseLock(text)
		if err != nil {
			return nil, err
		}
		lock.Plugins[0].Trusted = true
		if text, err = lock.Marshal(); err != nil {
			return nil, err
		}
	}
	return pluginhost.Open(context.Background(), pluginhost.Options{Lock: text, Embedded: bundle, Logger: log.logger(), CacheDir: os.Getenv(childCache)})
}

func (s *sighting) print() error {
	s.Peak = statusBytes("VmHWM")
	encoded, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", encoded)
	return err
}

// inChild runs the guest in a process of its own, which has patience to end.
func inChild(t testing.TB, wasm []byte, patience time.Duration, env ...string) sighting {
	t.Helper()
	file := filepath.Join(t.TempDir(), "guest.wasm")
	if err := os.WriteFile(file, wasm, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(append(os.Environ(), childWasm+"="+file), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var saw sighting
	switch {
	case ctx.Err() != nil:
		saw.TimedOut = true
		saw.Died = fmt.Sprintf("it was killed after %s without an answer", patience)
	case err != nil:
		saw.Died = err.Error() + ": " + head(errs.String(), 3)
	default:
		if err := json.Unmarshal(out.Bytes(), &saw); err != nil {
			t.Fatalf("the child said %q: %v", out.String(), err)
		}
	}
	return saw
}

// head is the first lines of s.
func head(s string, lines int) string {
	return strings.Join(strings.SplitN(strings.TrimSpace(s), "\n", lines+1)[:min(lines, strings.Count(s, "\n")+1)], " | ")
}

// want reports what is wrong with a sighting of a guest that may be refused or
// must be stopped: it has to be one of the two, in time, without stalling the
// process or taking its memory.
func (s sighting) want(most time.Duration, gc time.Duration, peak int64) error {
	var errs []error
	if s.Died != "" {
		return errors.New("the process of the host did not live: " + s.Died)
	}
	if s.OpenTook > 30*time.Second {
		errs = append(errs, fmt.Errorf("the host needed %s to open", s.OpenTook))
	}
	if s.Peak > peak {
		errs = append(errs, fmt.Errorf("the process grew to %d MiB, want at most %d", s.Peak>>20, peak>>20))
	}
	if s.CallTook > most {
		errs = append(errs, fmt.Errorf("the request took %s, want at most %s", s.CallTook, most))
	}
	if s.WorstGC > gc {
		errs = append(errs, fmt.Errorf("garbage collection stalled for %s, want at most %s", s.WorstGC, gc))
	}
	return errors.Join(errs...)
}

func (s sighting) String() string {
	switch {
	case s.Died != "":
		return s.Died
	case s.OpenError != "":
		return fmt.Sprintf("refused in %s: %s", s.OpenTook.Round(time.Millisecond), head(s.OpenError, 1))
	}
	verdict := "allowed"
	if !s.Allowed {
		verdict = "refused: " + s.Message
	}
	return fmt.Sprintf("open %s, call %s, worst of %d collections %s, peak %d MiB, %s", s.OpenTook.Round(time.Millisecond),
		s.CallTook.Round(time.Millisecond), s.GCs, s.WorstGC.Round(time.Microsecond), s.Peak>>20, verdict)
}
