package configcmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/config"
)

// maxFile bounds a unit or environment file.
const maxFile = 256 << 10

// service is what systemd starts k3s with.
type service struct {
	unit    string
	role    config.Command
	args    []string // after the program
	argsAt  string   // the file that says so
	environ []variable
}

type variable struct{ name, value, at string }

// readService reads <name>.service in dir, the drop-ins beside it and the
// environment files they name. It returns nil if there is no such unit.
func readService(dir, name string) (*service, error) {
	unit := filepath.Join(dir, name+".service")
	dropIns, err := filepath.Glob(unit + ".d/*.conf")
	if err != nil {
		return nil, fmt.Errorf("%s.d: %w", unit, err)
	}
	s := &service{unit: unit}
	var environFiles []string
	for i, file := range append([]string{unit}, dropIns...) {
		text, err := readSmall(file)
		if i == 0 && errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, line := range logicalLines(text) {
			key, value, _ := strings.Cut(line, "=")
			value = strings.TrimSpace(value)
			switch strings.TrimSpace(key) {
			case "ExecStart":
				words, err := splitWords(value)
				if err != nil {
					return nil, fmt.Errorf("%s: ExecStart: %w", file, err)
				}
				if len(words) > 0 {
					words = words[1:]
				}
				s.args, s.argsAt = words, file // an empty one takes back what was before
			case "Environment":
				words, err := splitWords(value)
				if err != nil {
					return nil, fmt.Errorf("%s: Environment: %w", file, err)
				}
				s.addVariables(words, file)
			case "EnvironmentFile":
				path := strings.ReplaceAll(strings.TrimPrefix(value, "-"), "%N", name)
				if value == "" {
					environFiles = nil
				} else if !slices.Contains(environFiles, path) {
					environFiles = append(environFiles, path)
				}
			}
		}
	}
	// k3s's installer puts it there; a unit of another directory may not say so.
	if beside := unit + ".env"; !slices.Contains(environFiles, beside) {
		environFiles = append(environFiles, beside)
	}
	for _, file := range environFiles {
		text, err := readSmall(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, line := range logicalLines(text) {
			name, value, ok := strings.Cut(line, "=")
			words, err := splitWords(value)
			if err != nil || !ok {
				return nil, fmt.Errorf("%s: a line is not NAME=value", file) // not the line: it may hold a secret
			}
			s.addVariables([]string{strings.TrimSpace(name) + "=" + strings.Join(words, " ")}, file)
		}
	}
	return s, nil
}

// addVariables takes NAME=value words; later ones win, as in systemd.
func (s *service) addVariables(words []string, at string) {
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		s.environ = slices.DeleteFunc(s.environ, func(v variable) bool { return v.name == name })
		s.environ = append(s.environ, variable{name, value, at})
	}
}

func readSmall(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("%s is larger than %d KiB", file, maxFile>>10)
	}
	return string(text), nil
}

// logicalLines joins lines that end in a backslash with the next and leaves out
// comments, headings and empty lines.
func logicalLines(text string) []string {
	var lines []string
	joined := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if part, more := strings.CutSuffix(line, `\`); more {
			joined += part + " "
			continue
		}
		if line = strings.TrimSpace(joined + line); line[0] != '[' {
			lines = append(lines, line)
		}
		joined = ""
	}
	if joined = strings.TrimSpace(joined); joined != "" {
		lines = append(lines, joined)
	}
	return lines
}

// splitWords takes a line apart at white space outside quotes, as systemd does;
// a backslash makes the next character an ordinary one, except in single quotes.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, escaped, quote := false, false, rune(0)
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quotation does not end")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
