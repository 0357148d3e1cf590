package crictl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	syncexec "k8s.io/utils/exec"
)

type execFlags struct {
	tty, interactive, sync bool
	timeout                time.Duration
}

func (a *app) execCommand() *cobra.Command {
	var e execFlags
	var seconds int64
	cmd := &cobra.Command{
		Use: "exec CONTAINER-ID COMMAND [ARGUMENT...]", Short: "Run a command in a container", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			runtime, err := a.runtimeService(cmd.Context())
			if err != nil {
				return err
			}
			if e.sync {
				e.timeout = time.Duration(seconds) * time.Second
				return a.execSync(cmd.Context(), runtime, args[0], args[1:], e)
			}
			return a.exec(cmd.Context(), runtime, args[0], args[1:], e)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the command's flags are its own
	f.BoolVarP(&e.tty, "tty", "t", false, "with a terminal")
	f.BoolVarP(&e.interactive, "interactive", "i", false, "with standard input")
	f.BoolVarP(&e.sync, "sync", "s", false, "wait for the end and then show the output")
	f.Int64Var(&seconds, "timeout", 0, "with --sync, how many seconds the command may take; 0 = any")
	return cmd
}

// execSync runs a command without any stream.
func (a *app) execSync(ctx context.Context, runtime internalapi.RuntimeService, id string, command []string, e execFlags) error {
	if e.tty || e.interactive {
		return errors.New("--sync cannot be used with --tty or --interactive")
	}
	stdout, stderr, err := runtime.ExecSync(ctx, id, command, e.timeout)
	_, outErr := a.stdio.Out.Write(stdout)
	_, errErr := a.stdio.Err.Write(stderr)
	var exit syncexec.ExitError
	if errors.As(err, &exit) {
		return exitError{status: exit.ExitStatus()}
	}
	if err != nil {
		err = fmt.Errorf("exec in container %s: %w", id, err)
	}
	return errors.Join(err, outErr, errErr)
}

// exec runs a command with its streams connected to ours.
func (a *app) exec(ctx context.Context, runtime internalapi.RuntimeService, id string, command []string, e execFlags) error {
	// A terminal has one output.
	r, err := runtime.Exec(ctx, &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: command, Tty: e.tty, Stdin: e.interactive, Stdout: true, Stderr: !e.tty,
	})
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", id, err)
	}
	target, err := url.Parse(r.GetUrl())
	if err != nil || target.Host == "" {
		return fmt.Errorf("exec in container %s: the runtime's streaming address %q cannot be used", id, r.GetUrl())
	}
	// The streaming server is the runtime's own on this machine; if it speaks
	// TLS, then with a certificate that nobody signed.
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	executor, err := remotecommand.NewSPDYExecutor(config, "POST", target)
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", id, err)
	}
	options := remotecommand.StreamOptions{Stdout: a.stdio.Out, Tty: e.tty}
	if e.interactive {
		options.Stdin = a.stdio.In
	}
	if !e.tty {
		options.Stderr = a.stdio.Err
	} else {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		options.TerminalSizeQueue = watchSize(ctx, a.stdio.Out)
		restore, err := makeRaw(options.Stdin)
		if err != nil {
			return err
		}
		defer restore()
	}
	err = executor.StreamWithContext(ctx, options)
	var exit utilexec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exitError{status: exit.ExitStatus()}
	}
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", id, err)
	}
	return nil
}

// makeRaw makes a terminal pass on every key as it is typed, until restore is
// called. Anything that is no terminal is left as it is.
func makeRaw(in io.Reader) (restore func(), err error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	return func() {
		// There is nobody left to tell, and the command's result matters more.
		_ = term.Restore(int(f.Fd()), old)
	}, nil
}

// sizes hands terminal sizes to the executor as they change.
type sizes <-chan remotecommand.TerminalSize

// Next returns the next size, nil when there will be none.
func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

// watchSize reports the size of the terminal out, first as it is and then when
// it changes, until ctx is done. It returns nil if out is no terminal.
func watchSize(ctx context.Context, out io.Writer) remotecommand.TerminalSizeQueue {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	queue := make(chan remotecommand.TerminalSize)
	go func() {
		defer close(queue)
		defer signal.Stop(changed)
		for {
			if width, height, err := term.GetSize(int(f.Fd())); err == nil {
				select {
				case queue <- remotecommand.TerminalSize{Width: uint16(width), Height: uint16(height)}:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sizes(queue)
}
