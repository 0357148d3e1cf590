package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// spec describes one layer and the image of which it is the last.
type spec struct {
	Ref    string    `json:"ref"`    // host/name:tag
	Base   string    `json:"base"`   // ref of another spec in the same archive, whose layers come first
	Config runConfig `json:"config"` // in the words of the OCI image configuration; not the base's
	Tars   []string  `json:"tars"`   // archives below the -from directory to unpack
	Dirs   []node    `json:"dirs"`
	Files  []node    `json:"files"`
	Links  []node    `json:"links"`
}

type runConfig struct {
	User       string   `json:"User,omitempty"`
	Env        []string `json:"Env,omitempty"`
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Cmd        []string `json:"Cmd,omitempty"`
	WorkingDir string   `json:"WorkingDir,omitempty"`
}

// node is a path of the root file system. A file has From (a name below the
// -from directory) or Text; a link has To, and Names when there are several of
// them in the directory Path.
type node struct {
	Path  string   `json:"path"`
	Mode  string   `json:"mode"` // octal
	From  string   `json:"from"`
	Text  string   `json:"text"`
	To    string   `json:"to"`
	Names []string `json:"names"`
}

func readSpec(name string) (spec, error) {
	var s spec
	body, err := os.ReadFile(name)
	if err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, err
	}
	if host, rest, ok := strings.Cut(s.Ref, "/"); !ok || !strings.Contains(host, ".") || !strings.Contains(rest, ":") {
		return s, fmt.Errorf("ref %q: must be host/name:tag, as in example.com/tool:1.0", s.Ref)
	}
	return s, nil
}

func (s spec) rootfs(from string) (*tree, error) {
	t := newTree()
	for _, name := range s.Tars {
		if err := t.unpack(filepath.Join(from, name)); err != nil {
			return nil, fmt.Errorf("tars: %s: %w", name, err)
		}
	}
	for _, n := range s.Dirs {
		mode, err := n.mode()
		if err == nil {
			err = t.add(entry{name: n.name(), mode: mode, kind: tar.TypeDir})
		}
		if err != nil {
			return nil, fmt.Errorf("dirs: %w", err)
		}
	}
	for _, n := range s.Files {
		if err := n.addFile(t, from); err != nil {
			return nil, fmt.Errorf("files: %w", err)
		}
	}
	for _, n := range s.Links {
		names := []string{n.name()}
		if len(n.Names) > 0 {
			names = nil
			for _, base := range n.Names {
				names = append(names, n.name()+"/"+base)
			}
		}
		for _, name := range names {
			if err := t.add(entry{name: name, mode: 0o777, kind: tar.TypeSymlink, link: n.To}); err != nil {
				return nil, fmt.Errorf("links: %w", err)
			}
		}
	}
	return t, nil
}

func (n node) addFile(t *tree, from string) error {
	mode, err := n.mode()
	if err != nil {
		return err
	}
	data := []byte(n.Text)
	if n.From != "" {
		if data, err = os.ReadFile(filepath.Join(from, n.From)); err != nil {
			return err
		}
	}
	return t.addFile(n.name(), mode, data)
}

func (n node) name() string { return strings.TrimPrefix(n.Path, "/") }

func (n node) mode() (int64, error) {
	mode, err := strconv.ParseInt(n.Mode, 8, 64)
	if err != nil || mode < 0 || mode > 0o7777 {
		return 0, fmt.Errorf("%s: mode %q: must be octal, as in 0644", n.Path, n.Mode)
	}
	return mode, nil
}
