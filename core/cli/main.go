package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cleat-dev/cleat/core/config"
)

// Main runs the command that argv, the program's name included, asks for and
// returns the exit code of the process. It installs signal handlers only while
// a server runs; the second signal makes it return while the server still
// stops, so the caller must exit.
func Main(p Programs, argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newApp(p).main(argv, stdin, stdout, stderr)
}

func (a *app) main(argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	argv = ownCopy(argv)
	if len(argv) == 0 {
		argv = []string{"cleat"}
	}
	name, args := filepath.Base(argv[0]), argv[1:]
	for _, tool := range a.tools() {
		if name == tool.name {
			return a.runTool(tool, args, stderr)
		}
		// The tool knows its own completions and speaks the same protocol.
		if len(args) >= 2 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) && args[1] == tool.name {
			return a.runTool(tool, append([]string{args[0]}, args[2:]...), stderr)
		}
	}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	report(stderr, err)
	return 1
}

// ownCopy copies the arguments to memory of ours. The strings of os.Args are
// the kernel's argument area itself, which setTitle overwrites.
func ownCopy(argv []string) []string {
	out := make([]string, len(argv))
	for i, s := range argv {
		out[i] = strings.Clone(s)
	}
	return out
}

// exitCode ends the program with a code and nothing to say: whoever returns it
// has said it.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// hinted is an error with a line of advice.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// report writes one line for each of the errors that are joined in err, and
// then the advice.
func report(w io.Writer, err error) {
	for _, e := range flatten(err) {
		fmt.Fprintf(w, "cleat: %s\n", strings.TrimRight(strings.ReplaceAll(e.Error(), "\n", "\n       "), " \n"))
	}
	var h hinted
	if errors.As(err, &h) {
		fmt.Fprintf(w, "       %s\n", strings.ReplaceAll(h.hint, "\n", "\n       "))
	} else if way := wayOut(err); way != "" {
		fmt.Fprintf(w, "       %s\n", way)
	}
}

// wayOut is advice on what a host may lack. It goes by the text, since what is
// embedded does not always wrap the system's errors.
func wayOut(err error) string {
	text := err.Error()
	for _, w := range []struct{ says, advice string }{
		{syscall.ENOSPC.Error(), "the disk is full: `df -h` and `df -i` show which; make room and start again"},
		{"database or disk is full", "the disk of the database is full: `df -h` shows it; make room and start again"},
		{syscall.EROFS.Error(), "the file system cannot be written: `findmnt` shows how it is mounted, the kernel's log whether its disk failed"},
		{syscall.EADDRINUSE.Error(), "another program listens there: `ss -ltnp` names it; end it or choose another port"},
		{syscall.EMFILE.Error(), "the limit on open files is too low: raise it with `ulimit -n`, or LimitNOFILE= of a systemd unit"},
	} {
		if strings.Contains(text, w.says) {
			return w.advice
		}
	}
	return ""
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if h, ok := err.(hinted); ok {
		err = h.error
	}
	joined, ok := err.(interface{ Unwrap() []error })
	// fmt.Errorf with several %w has the method too, but is one sentence.
	if !ok || !isJoin(err, joined.Unwrap()) {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

func isJoin(err error, parts []error) bool {
	text := make([]string, len(parts))
	for i, e := range parts {
		text[i] = e.Error()
	}
	return err.Error() == strings.Join(text, "\n")
}

// flagError turns what pflag says into our words, with the nearest flag.
func flagError(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		given := unknown.GetSpecifiedName()
		if o, ok := optionOf(given); ok && cmd.Flags().Lookup(o.Name) != nil {
			return fmt.Errorf("unknown flag -%s; write --%s", given, o.Name)
		} else if ok && takesOptions(cmd) {
			return fmt.Errorf("--%s is an option of `cleat %s` only%s", o.Name, o.Commands, config.Difference(o.Name))
		}
		if unknown.GetSpecifiedShortnames() != "" {
			if f, ok := config.FindK3sFlag(given); ok && takesOptions(cmd) {
				return fmt.Errorf("unknown flag -%s, k3s's --%s: %s", given, f.Name, f.Explain(given))
			}
			return hinted{fmt.Errorf("unknown flag -%s", given), hint}
		}
		if f, ok := config.FindK3sFlag(given); ok && takesOptions(cmd) {
			return fmt.Errorf("unknown flag --%s: %s", given, f.Explain(given))
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := config.Nearest(given, names); near != "" {
			return fmt.Errorf("unknown flag --%s; did you mean --%s?", given, near)
		}
		return hinted{fmt.Errorf("unknown flag --%s", given), hint}
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		return hinted{fmt.Errorf("--%s has no value", missing.GetFlag().Name), hint}
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return fmt.Errorf("--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
	}
	return hinted{err, hint}
}

// optionOf finds an option by its name or letter.
func optionOf(given string) (config.Option, bool) {
	for _, o := range config.Table() {
		if o.Name == given || o.Short == given {
			return o, true
		}
	}
	return config.Option{}, false
}

// takesOptions tells whether a command has the options of a server.
func takesOptions(cmd *cobra.Command) bool { return cmd.Flags().Lookup("data-dir") != nil }

func unknownCommand(cmd *cobra.Command, given string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	err := fmt.Errorf("unknown command %q", given)
	if near := config.Nearest(given, names); near != "" {
		return fmt.Errorf("%w; did you mean `%s %s`?", err, cmd.CommandPath(), near)
	}
	return hinted{err, fmt.Sprintf("`%s --help` lists the commands", cmd.CommandPath())}
}

// noArgs refuses arguments to a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return hinted{fmt.Errorf("`%s` takes no argument, got %q", cmd.CommandPath(), args[0]),
			fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())}
	}
	return nil
}

// choice is a flag value out of a fixed set.
type choice struct {
	value  string
	values []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.values, "|") }

func (c *choice) Set(s string) error {
	for _, v := range c.values {
		if s == v {
			c.value = s
			return nil
		}
	}
	return fmt.Errorf("write %s", strings.Join(c.values, ", "))
}
