package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds on what is read from disk. A config file of a megabyte is a mistake.
const (
	maxFileSize = 256 << 10
	maxFiles    = 128
)

// entry is one key of one config file.
type entry struct {
	key    string
	append bool // the key was written key+:
	values []string
	list   bool // the values were written as a YAML list
	line   int
}

type file struct {
	path    string
	entries []entry
}

// at is where an entry stands.
func (f file) at(e entry) string { return fmt.Sprintf("%s:%d", f.path, e.line) }

// readFiles reads the config file and then the files of the directory beside
// it. A missing config file is an error only if the operator named it. What
// could be read comes back beside an error, so that all faults can be told.
func readFiles(configFile string, named bool) ([]file, error) {
	names, err := dropIns(configFile + ".d")
	if err != nil {
		return nil, err
	}
	var files []file
	var errs []error
	for i, name := range append([]string{configFile}, names...) {
		data, err := readBounded(name, maxFileSize)
		if i == 0 && !named && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("config file: %w", err))
			continue
		}
		entries, err := parseYAML(name, data)
		if err != nil {
			errs = append(errs, err)
		}
		files = append(files, file{name, entries})
	}
	return files, errors.Join(errs...)
}

// dropIns lists the *.yaml and *.yml files of dir in alphabetical order.
func dropIns(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("config directory: %w", err)
	}
	var names []string
	for _, e := range list {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		names = append(names, filepath.Join(dir, e.Name()))
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("config directory %s holds %d files; join some, at most %d are read", dir, len(names), maxFiles)
	}
	return names, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d KiB", name, limit>>10)
	}
	return data, nil
}

// parseYAML reads a flat mapping of option names to values. Scalars are taken
// as they are written, not as YAML reads them: the mode 0644 stays 0644
// instead of turning into the number 420. The keys that are right come back
// beside an error.
func parseYAML(name string, data []byte) ([]entry, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one YAML document; move the second into a file of %s.d", name, name)
	}
	top := doc.Content[0]
	if isNull(top) {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: not a mapping; write lines such as \"node-name: n1\"", name, top.Line)
	}
	var entries []entry
	var errs []error
	seen := make(map[string]int)
	for i := 0; i+1 < len(top.Content); i += 2 {
		e, err := parseEntry(top.Content[i], top.Content[i+1])
		if err == nil {
			if line, dup := seen[top.Content[i].Value]; dup {
				err = fmt.Errorf("%q was already given on line %d", top.Content[i].Value, line)
			}
			seen[top.Content[i].Value] = e.line
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, top.Content[i].Line, err))
			continue
		}
		entries = append(entries, e)
	}
	return entries, errors.Join(errs...)
}

func parseEntry(k, v *yaml.Node) (entry, error) {
	if k.Kind != yaml.ScalarNode || k.Value == "" || len(k.Value) > 128 {
		return entry{}, errors.New("a key must be the name of an option")
	}
	key, plus := strings.CutSuffix(k.Value, "+")
	e := entry{key: key, append: plus, line: k.Line}
	v = target(v)
	switch {
	case isNull(v):
		return entry{}, fmt.Errorf("%q has no value; give it one or remove the line", k.Value)
	case v.Kind == yaml.ScalarNode:
		e.values = []string{v.Value}
		return e, nil
	case v.Kind == yaml.SequenceNode:
		e.list = true
		for _, item := range v.Content {
			item = target(item)
			if item.Kind != yaml.ScalarNode || isNull(item) {
				return entry{}, fmt.Errorf("%q: an item of the list is not a plain value; quote it if it holds \": \"", k.Value)
			}
			e.values = append(e.values, item.Value)
		}
		return e, nil
	}
	return entry{}, fmt.Errorf("%q: a mapping where a value or a list of values belongs; write \"key=value\" items", k.Value)
}

// target follows an alias. Aliases cannot nest further than the flat shape
// above allows, so they cannot blow up.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
