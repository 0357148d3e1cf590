package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// setTitle makes ps and /proc/<pid>/cmdline, which every user of the machine
// may read, show the program and its command only: a --token on the command
// line is visible for milliseconds instead of for as long as the server runs.
// In /proc/<pid>/environ, which root may read, it blanks the given variables.
//
// The kernel shows both straight from the process's own memory, whose place
// /proc/self/stat tells, and /proc/self/mem is a way to write there without
// unsafe. The strings of os.Args are that memory too: whoever still holds one
// sees it change, which is why Main copies its arguments first and the
// program's name stays as it is. The environment was copied by the runtime.
func setTitle(command string, variables []string) error {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	args, env, err := findAreas(string(stat))
	if err != nil {
		return err
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	return errors.Join(
		rewrite(mem, args, func(area []byte) { retitle(area, command) }),
		rewrite(mem, env, func(area []byte) { blank(area, variables) }),
	)
}

// area is a piece of this process's memory.
type area struct{ start, end int64 }

func rewrite(mem *os.File, a area, change func([]byte)) error {
	content := make([]byte, a.end-a.start)
	if _, err := mem.ReadAt(content, a.start); err != nil {
		return fmt.Errorf("read own memory: %w", err)
	}
	before := bytes.Clone(content)
	change(content)
	if bytes.Equal(before, content) {
		return nil
	}
	if _, err := mem.WriteAt(content, a.start); err != nil {
		return fmt.Errorf("overwrite own memory: %w", err)
	}
	return nil
}

// maxArea is more than any command line or environment: the kernel's own limit
// is a quarter of the stack.
const maxArea = 8 << 20

// findAreas finds arg_start, arg_end, env_start and env_end, fields 48 to 51 of
// /proc/<pid>/stat. The second field is the program's name in parentheses and
// may hold anything.
func findAreas(stat string) (args, env area, err error) {
	i := strings.LastIndex(stat, ") ")
	if i < 0 {
		return area{}, area{}, errors.New("/proc/self/stat has no program's name")
	}
	fields := strings.Fields(stat[i+2:]) // from the third on
	if len(fields) < 51-2 {
		return area{}, area{}, errors.New("/proc/self/stat does not tell where the arguments are")
	}
	for n, to := range []*int64{&args.start, &args.end, &env.start, &env.end} {
		if *to, err = strconv.ParseInt(fields[48-3+n], 10, 64); err != nil {
			return area{}, area{}, err
		}
	}
	for _, a := range []area{args, env} {
		if a.start <= 0 || a.end < a.start || a.end-a.start > maxArea {
			return area{}, area{}, fmt.Errorf("/proc/self/stat has no usable argument area: %d to %d", a.start, a.end)
		}
	}
	return args, env, nil
}

// retitle leaves the first of the NUL-ended arguments and puts command in the
// place of the others.
func retitle(args []byte, command string) {
	_, rest, _ := bytes.Cut(args, []byte{0})
	clear(rest)
	if len(command) < len(rest) {
		copy(rest, command)
	}
}

// blank overwrites the values of the variables among the NUL-ended name=value
// pairs.
func blank(env []byte, variables []string) {
	for len(env) > 0 {
		pair, rest, _ := bytes.Cut(env, []byte{0})
		name, value, _ := bytes.Cut(pair, []byte("="))
		for _, v := range variables {
			if string(name) == v {
				copy(value, bytes.Repeat([]byte{'x'}, len(value)))
			}
		}
		env = rest
	}
}
