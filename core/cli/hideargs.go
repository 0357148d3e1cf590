package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// hideArgs overwrites secrets in the argument list that ps and
// /proc/<pid>/cmdline show to every user of the machine, so that a --token on
// the command line is visible for milliseconds instead of for as long as the
// server runs.
//
// The kernel shows that list straight from the process's own memory, whose
// place /proc/self/stat tells, and /proc/self/mem is a way to write there
// without unsafe. The strings of os.Args are that memory too: whoever still
// holds one sees it change, which is why Main copies its arguments first.
func hideArgs(secrets []string) error {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	start, end, err := argArea(string(stat))
	if err != nil {
		return err
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	area := make([]byte, end-start)
	if _, err := mem.ReadAt(area, start); err != nil {
		return fmt.Errorf("read arguments: %w", err)
	}
	if !blank(area, secrets) {
		return nil
	}
	if _, err := mem.WriteAt(area, start); err != nil {
		return fmt.Errorf("overwrite arguments: %w", err)
	}
	return nil
}

// maxArgs is more than any command line: the kernel's own limit is a quarter
// of the stack.
const maxArgs = 8 << 20

// argArea finds arg_start and arg_end, fields 48 and 49 of /proc/<pid>/stat.
// The second field is the program's name in parentheses and may hold anything.
func argArea(stat string) (start, end int64, err error) {
	_, rest, ok := cutLast(stat, ") ")
	fields := strings.Fields(rest) // from the third on
	if !ok || len(fields) < 49-2 {
		return 0, 0, errors.New("/proc/self/stat does not tell where the arguments are")
	}
	start, err1 := strconv.ParseInt(fields[48-3], 10, 64)
	end, err2 := strconv.ParseInt(fields[49-3], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	if start <= 0 || end <= start || end-start > maxArgs {
		return 0, 0, fmt.Errorf("/proc/self/stat has no usable argument area: %d to %d", start, end)
	}
	return start, end, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// blank overwrites the secrets at the ends of the NUL-ended arguments in area:
// "--token", "x" and "--token=x" and "-tx" all end in the secret.
func blank(area []byte, secrets []string) (changed bool) {
	for len(area) > 0 {
		arg, rest, _ := bytes.Cut(area, []byte{0})
		for _, secret := range secrets {
			if secret != "" && bytes.HasSuffix(arg, []byte(secret)) {
				tail := arg[len(arg)-len(secret):]
				copy(tail, bytes.Repeat([]byte{'x'}, len(tail)))
				changed = true
			}
		}
		area = rest
	}
	return changed
}
