//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	readme = "../../README.md"

	// tourDir stands for the repository, which a machine may not see.
	tourDir = "/var/lib/cleat/tour"
	// tourNode is the name of the machine in the README.
	tourNode = "debian"
)

// step is a command of a page and what it prints there.
type step struct {
	page    string // where the command is
	line    int    // counted from 1
	command string
	want    []string
}

// testReadme runs the tour of the README on a machine whose server has been
// started, in the order of the README and with its output compared.
//
// The commands are the lines that begin with "$ " in blocks marked console,
// continued by lines that begin with "> "; the lines up to the next command are
// what it prints, on either output. They are compared word by word:
//
//   - … stands for any text within a word, and as a line for any lines;
//   - an age or a time taken equals any other;
//   - the machine is called debian in the README.
//
// A command that only looks is run again until it prints that, as a reader would.
// Any other is run once. The exit status counts where the README shows no output.
func testReadme(t *testing.T, c *cluster) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	steps := parseTour("README.md", string(text))
	if len(steps) < 20 {
		t.Fatalf("only %d commands found in the README", len(steps))
	}
	checkStartOfTour(t, string(text), c.server.Log())

	c.CopyFile(t, artefact(t, "CLEAT_PLUGINS_LOCK", "plugins.lock"), tourDir+"/plugins.lock", 0o644)
	c.CopyFile(t, artefact(t, "CLEAT_TEST_IMAGES", "build/test-images.tar"), tourDir+"/build/test-images.tar", 0o644)
	t.Cleanup(func() { // the tour cleans up after itself, unless it failed
		if _, err := c.Run("kubectl", "delete", "namespace", "shop", "--ignore-not-found", "--wait=false"); err != nil {
			t.Error(err)
		}
		for _, file := range []string{tourDir, manifests + "hello.yaml"} {
			if err := os.RemoveAll(c.Path(file)); err != nil {
				t.Error(err)
			}
		}
	})
	for _, s := range steps {
		s.run(t, c.Name, func(command string) (string, error) {
			return c.Run("sh", "-c", "exec 2>&1; cd "+tourDir+"\n"+command)
		})
	}
}

// run runs the command with the function, which returns both of its outputs,
// and ends the test unless they are what the README shows.
func (s step) run(t testing.TB, node string, run func(command string) (string, error)) {
	t.Helper()
	attempt := func() error {
		out, err := run(s.command)
		if len(s.want) == 0 && err != nil {
			return err
		}
		if at := mismatch(s.want, outputLines(out), node); at != "" {
			return errors.New(at + "\nprinted:\n" + out)
		}
		return nil
	}
	where := fmt.Sprintf("%s:%d: $ %s", s.page, s.line, s.command)
	if onlyLooks(s.command) {
		lab.Eventually(t, podPatience, where, attempt)
	} else if err := attempt(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
}

// onlyLooks reports whether running a command twice is as good as once.
func onlyLooks(command string) bool {
	looks := regexp.MustCompile(`^cleat (status|graph|crictl|ctr|kubectl (get|exec)|plugin (list|inspect))\b`)
	return looks.MatchString(command)
}

// checkStartOfTour wants the messages with which the README shows the start, up
// to their first attribute, to be in the server's log in that order.
func checkStartOfTour(t *testing.T, text, log string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3} INF ([^=\n]*) \w+=`)
	found := line.FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		t.Error("the README does not show a server's start")
	}
	for _, m := range found {
		message := regexp.MustCompile(`\d+\\\.\d`).ReplaceAllString(regexp.QuoteMeta(m[1]), `\d+\.\d`)
		at := regexp.MustCompile(`"msg":"` + message).FindStringIndex(log)
		if at == nil {
			t.Errorf("the README shows the message %q, which is not in the server's log, or not after the one before", m[1])
			continue
		}
		log = log[at[1]:]
	}
}

// parseTour takes the commands out of a page in Markdown.
func parseTour(page, text string) []step {
	var steps []step
	inside := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{page: page, line: i + 1, command: line[2:]})
		case len(steps) == 0: // output of nothing
		case strings.HasPrefix(line, "> ") && len(steps[len(steps)-1].want) == 0:
			steps[len(steps)-1].command += "\n" + line[2:]
		default:
			s := &steps[len(steps)-1]
			s.want = append(s.want, line)
		}
	}
	return steps
}

// outputLines splits output and drops what ends the last line.
func outputLines(out string) []string {
	out = strings.TrimRight(out, "\n")
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// mismatch tells where got is not what want describes, "" if it is.
func mismatch(want, got []string, node string) string {
	for i, w := range want {
		if strings.TrimSpace(w) == "…" {
			rest := want[i+1:]
			for skip := range len(got) - i + 1 {
				if mismatch(rest, got[i+skip:], node) == "" {
					return ""
				}
			}
			return fmt.Sprintf("nothing after the … fits %q", strings.Join(rest, "\n"))
		}
		if i >= len(got) {
			return fmt.Sprintf("the line %q is missing", w)
		}
		if !sameLine(w, got[i], node) {
			return fmt.Sprintf("shown:   %q\nprinted: %q", w, got[i])
		}
	}
	if len(got) > len(want) {
		return fmt.Sprintf("a line that is not shown: %q", got[len(want)])
	}
	return ""
}

func sameLine(want, got, node string) bool {
	return slices.EqualFunc(strings.Fields(want), strings.Fields(got), func(w, g string) bool { return sameWord(w, g, node) })
}

func sameWord(want, got, node string) bool {
	if want == tourNode {
		want = node
	}
	if want == got || isTime(want) && isTime(got) {
		return true
	}
	parts := strings.Split(want, "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return len(parts) > 1 && regexp.MustCompile("^"+strings.Join(parts, ".*")+"$").MatchString(got)
}

// isTime recognizes 8m35s, 4d2h, 1.766s and 391ms.
func isTime(word string) bool {
	return regexp.MustCompile(`^(\d+(\.\d+)?(y|d|h|m|s|ms|µs))+$`).MatchString(word)
}

// The comparison lets pass what it should and nothing else.
func TestTourComparison(t *testing.T) {
	for _, tc := range []struct {
		want, got string
		same      bool
	}{
		{"NAME  AGE\ndebian   8m35s", "NAME AGE\nn1     2d", true},
		{"NAME  AGE\ndebian   8m35s", "NAME AGE\nn2     2d", false},
		{"NAME  AGE\ndebian   8m35s", "NAME AGE\nn1     Ready", false},
		{"web-7dd84b5449-…", "web-7dd84b5449-mhgv5", true},
		{"web-7dd84b5449-…", "web-56c775b5df-mhgv5", false},
		{"10.43.…", "10.43.35.98", true},
		{"a.c", "abc", false},
		{"one\n…\nthree", "one\nthree", true},
		{"one\n…\nthree", "one\ntwo\nthree", true},
		{"one\n…\nthree", "one\ntwo", false},
		{"one\n…", "one", true},
		{"one\n…", "two", false},
		{"one", "one\ntwo", false},
		{"one\ntwo", "one", false},
		{"one two", "one", false},
		{"", "one", false},
	} {
		got := mismatch(outputLines(tc.want), outputLines(tc.got), "n1")
		if (got == "") != tc.same {
			t.Errorf("shown %q, printed %q: mismatch %q, want the same: %t", tc.want, tc.got, got, tc.same)
		}
	}
	steps := parseTour("a page", "```sh\n$ no\n```\n```console\n$ a \\\n>   b\n> c\n\nout\n$ d\n```\nout\n")
	if len(steps) != 2 || steps[0].command != "a \\\n  b\nc" || steps[0].line != 5 ||
		!slices.Equal(steps[0].want, []string{"", "out"}) || steps[1].command != "d" || steps[1].want != nil {
		t.Errorf("parsed %+v", steps)
	}
}

// The README's files are where it says.
func TestReadmeLinks(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
			t.Errorf("a link of README.md leads nowhere: %v", err)
		}
	}
}
