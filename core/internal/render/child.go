package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/hostabi"
)

const (
	// childMemory is what a rendering may use, in bytes, with what the program
	// itself needs.
	childMemory = 512 << 20
	// childStack bounds one goroutine's stack.
	childStack = 64 << 20
	// childCPU ends a child whose parent is gone, in seconds.
	childCPU = 90

	// maxInput is more than a request can be: base64 makes four bytes of three.
	maxInput = maxTreeBytes*2 + hostabi.MaxMessageBytes + 1<<20
)

var errTooMuch = fmt.Errorf("it renders to more than %d MiB, which is more than can be deployed as one: split it", hostabi.MaxMessageBytes>>20)

// childEnvironment is all that a child knows of the machine.
func childEnvironment() []string {
	return []string{"TZ=UTC", "GOTRACEBACK=none", "GOMAXPROCS=1"}
}

// Child renders one request from stdin and answers on stdout. It is for a
// process made for that: it gives up memory, files and sockets first. The result
// is the exit code.
func Child(stdin io.Reader, stdout, stderr io.Writer) int {
	log.SetOutput(io.Discard) // what the libraries log goes nowhere
	slog.SetDefault(slog.New(slog.DiscardHandler))
	input, err := io.ReadAll(io.LimitReader(stdin, maxInput))
	if err == nil {
		err = confine()
	}
	if err == nil {
		err = json.NewEncoder(stdout).Encode(respond(input))
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// confine takes from the process what rendering does not need, for good: no
// template or library asks for it back.
func confine() error {
	// The child inherits the server's protection from the kernel's choice when
	// memory runs out, and must be the first to go instead. A kernel or container
	// that forbids it is no reason not to render.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	debug.SetMemoryLimit(childMemory / 4 * 3)
	debug.SetMaxStack(childStack)
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"memory", unix.RLIMIT_DATA, childMemory},
		{"processor time", unix.RLIMIT_CPU, childCPU},
		{"core dumps", unix.RLIMIT_CORE, 0},
		{"files", unix.RLIMIT_NOFILE, 0},
	} {
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("limit %s to %d: %w", l.name, l.value, err)
		}
	}
	return nil
}

// respond renders. A library that panics has failed at this one request.
func respond(input []byte) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{Error: short(fmt.Errorf("the library that renders it failed: %v", r))}
		}
	}()
	var q request
	if err := json.Unmarshal(input, &q); err != nil {
		return answer{Error: short(fmt.Errorf("decode the request: %w", err))}
	}
	var err error
	switch {
	case q.Helm != nil:
		var result hostabi.HelmResult
		if result, err = helmChart(q.Files, *q.Helm, q.KubeVersion); err == nil {
			a.Helm = &result
		}
	case q.Kustomize != nil:
		a.Objects, err = kustomization(q.Files, *q.Kustomize)
	default:
		err = errors.New("the request asks for nothing")
	}
	if err != nil {
		return answer{Error: short(err)}
	}
	return a
}

// short is an error as one line that fits into a status: of a long one the
// beginning, where it happened, and the end, what it was.
func short(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	text := strings.Join(parts, " ")
	if len(text) > maxReason {
		half := maxReason / 2
		text = strings.ToValidUTF8(text[:half], "") + " … " + strings.ToValidUTF8(text[len(text)-half:], "")
	}
	return text
}

// budget bounds what is rendered, in bytes of JSON.
type budget struct{ left int }

func newBudget() *budget { return &budget{left: hostabi.MaxMessageBytes - maxReason} }

func (b *budget) spend(n int) error {
	if b.left -= n; b.left < 0 {
		return errTooMuch
	}
	return nil
}
