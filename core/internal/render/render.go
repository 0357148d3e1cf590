package render

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/cleat-dev/cleat/core/internal/render/memtree"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	// Bounds of what is handed to the child, in bytes and files.
	maxTreeBytes = 16 << 20
	maxTreeFiles = 4096

	maxTime   = time.Minute // when the caller leaves more
	maxStderr = 16 << 10
	maxReason = 2 << 10 // bytes of an error for the operator

	// killDelay is how long an ended child's pipes are waited for.
	killDelay = time.Second
)

// Options are what a Renderer is made of.
type Options struct {
	// Command is the program, with its arguments, that calls Child: as a rule
	// /proc/self/exe and a word that main knows.
	Command []string
	// KubeVersion is the Kubernetes version that charts are told, v1.36.3.
	KubeVersion string
}

// Renderer renders in a child process, one at a time. It implements
// extension.Renderer. Make one with New.
type Renderer struct {
	options Options
	turn    chan struct{}
}

// New returns a renderer. It starts nothing.
func New(o Options) *Renderer {
	return &Renderer{options: o, turn: make(chan struct{}, 1)}
}

// request is what the child gets, as JSON.
type request struct {
	Files       map[string][]byte         `json:"files"`
	KubeVersion string                    `json:"kube_version"`
	Helm        *hostabi.HelmRequest      `json:"helm,omitempty"`
	Kustomize   *hostabi.KustomizeRequest `json:"kustomize,omitempty"`
}

// answer is what the child gives, as JSON.
type answer struct {
	Error   string              `json:"error,omitempty"`
	Helm    *hostabi.HelmResult `json:"helm,omitempty"`
	Objects []json.RawMessage   `json:"objects,omitempty"`
}

// Helm renders the chart in tree, a directory with Chart.yaml or a single .tgz,
// or the one in req.Archive, in which case tree may be nil. The error is for the
// operator.
func (r *Renderer) Helm(ctx context.Context, tree fs.FS, req hostabi.HelmRequest) (hostabi.HelmResult, error) {
	q := request{Helm: &req}
	if req.Archive != "" {
		packed, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(req.Archive), ""))
		if err != nil {
			return hostabi.HelmResult{}, fmt.Errorf("chart: the archive is not base64: %w", err)
		}
		inside := req
		inside.Archive = ""
		q.Helm, q.Files = &inside, map[string][]byte{"archive.tgz": packed}
	} else if err := q.read(tree); err != nil {
		return hostabi.HelmResult{}, fmt.Errorf("chart: %w", err)
	}
	a, err := r.run(ctx, q)
	if err != nil {
		return hostabi.HelmResult{}, fmt.Errorf("chart: %w", err)
	}
	if a.Helm == nil {
		return hostabi.HelmResult{}, errors.New("chart: the rendering process gave no answer")
	}
	return *a.Helm, nil
}

// Kustomize builds the kustomization at req.Path in tree. The error is for the
// operator.
func (r *Renderer) Kustomize(ctx context.Context, tree fs.FS, req hostabi.KustomizeRequest) ([]json.RawMessage, error) {
	q := request{Kustomize: &req}
	if err := q.read(tree); err != nil {
		return nil, fmt.Errorf("kustomization: %w", err)
	}
	a, err := r.run(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("kustomization: %w", err)
	}
	return a.Objects, nil
}

func (q *request) read(tree fs.FS) (err error) {
	if tree == nil {
		return errors.New("there are no files to render")
	}
	q.Files, err = memtree.Read(tree, memtree.Bounds{Files: maxTreeFiles, Bytes: maxTreeBytes})
	return err
}

// run has the child render.
func (r *Renderer) run(ctx context.Context, q request) (answer, error) {
	if len(r.options.Command) == 0 {
		return answer{}, errors.New("this program cannot render")
	}
	q.KubeVersion = r.options.KubeVersion
	input, err := json.Marshal(q)
	if err != nil {
		return answer{}, fmt.Errorf("encode the request: %w", err)
	}
	// One at a time, so that the memory of all is that of one.
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	bounded, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	begin := time.Now()
	child := exec.CommandContext(bounded, r.options.Command[0], r.options.Command[1:]...)
	child.Env = childEnvironment()
	child.Dir = "/"
	child.WaitDelay = killDelay
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal of the terminal is not for it
	output := &limited{most: hostabi.MaxMessageBytes + maxReason, full: cancel}
	words := &limited{most: maxStderr, full: cancel}
	child.Stdin, child.Stdout, child.Stderr = bytes.NewReader(input), output, words
	if err := child.Run(); err != nil {
		return answer{}, ended(ctx, bounded, err, output, words, time.Since(begin))
	}
	var a answer
	if err := json.Unmarshal(output.kept, &a); err != nil {
		return answer{}, fmt.Errorf("decode the answer of the rendering process: %w", err)
	}
	if a.Error != "" {
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}

// ended says why a child that gave no answer ended.
func ended(ctx, bounded context.Context, err error, output, errs *limited, spent time.Duration) error {
	words := string(errs.kept)
	var status syscall.WaitStatus
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status, _ = exit.Sys().(syscall.WaitStatus)
	}
	switch {
	case output.over:
		return errTooMuch
	case errs.over:
		return errors.New("the rendering process was ended because it wrote errors without end")
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case bounded.Err() != nil:
		return fmt.Errorf("rendering was not done after %v and was ended: look for a loop without end or a very large list in it",
			spent.Round(time.Millisecond))
	case strings.Contains(words, "stack exceeds"):
		return errors.New("rendering was ended because a template calls itself without end")
	case strings.Contains(words, "out of memory"), strings.Contains(words, "cannot allocate memory"), strings.Contains(words, "cannot map pages"):
		return fmt.Errorf("rendering was ended because it needs more than %d MiB of memory: look for a value in it that grows without end",
			childMemory>>20)
	case status.Signaled():
		return fmt.Errorf("the rendering process was ended from outside (%v); it uses up to %d MiB of memory", status.Signal(), childMemory>>20)
	}
	last := strings.TrimSpace(words)
	if i := strings.LastIndexByte(last, '\n'); i >= 0 {
		last = last[i+1:]
	}
	return fmt.Errorf("the rendering process failed: %w: %s", err, last)
}

// limited keeps what is written to it and fails once that is too much. It has
// no ReadFrom, which would go past the limit.
type limited struct {
	kept []byte
	most int
	full func()
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if len(l.kept)+len(p) > l.most {
		l.over = true
		l.full() // or the writer would wait for a reader
		return 0, errTooMuch
	}
	l.kept = append(l.kept, p...)
	return len(p), nil
}
