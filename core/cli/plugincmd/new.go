package plugincmd

import (
	"archive/tar"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"
)

// templates holds what a new project is made of: for each point what is the same
// in all languages, and for each language the files that all points share and those
// of each point. The suffix .tmpl is cut off.
//
//go:embed all:templates
var templates embed.FS

const (
	templateSuffix = ".tmpl"
	sharedFiles    = "shared"
	// maxSDK bounds one file of the SDK, which is part of the binary.
	maxSDK = 1 << 20
)

// project is what the templates see.
type project struct {
	Name, Point, Lang string
	Cleat             string // version
}

func (c *command) new() *cobra.Command {
	var p project
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a plugin: a project that builds, with its SDK and a test",
		Long: `Makes a directory NAME with a small plugin in it that builds, passes its unit test
and conforms to the ABI, together with the SDK of its language. What else a build
needs is in the README.md it gets; only AssemblyScript downloads something, its
compiler. Languages: ` + strings.Join(languages(), ", ") + `. Points: admission, deployer, cni,
datastore.`,
		Example: `  cleat plugin new owner-label --point admission --lang go
  cd owner-label && make test && make && make verify`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Name, p.Cleat = filepath.Base(args[0]), version.Cleat
			if err := p.check(); err != nil {
				return err
			}
			if err := c.begin(args[0], p); err != nil {
				return err
			}
			out := &printer{w: cmd.OutOrStdout()}
			out.linef("%s is a plugin for %s in %s; next:", args[0], p.Point, p.Lang)
			out.linef("  cd %s && make test && make && make verify", args[0])
			return out.err
		},
	}
	cmd.Flags().StringVar(&p.Point, "point", "admission", "extension point: admission, deployer, cni or datastore")
	cmd.Flags().StringVar(&p.Lang, "lang", "go", "language: "+strings.Join(languages(), ", "))
	return cmd
}

// languages are those with templates.
func languages() []string {
	entries, err := templates.ReadDir("templates/languages")
	if err != nil { // the directory is embedded
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (p project) check() error {
	name := p.Name
	if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("name %q must be lower-case letters, digits and dashes, at most 63", name)
	}
	if !slices.Contains(languages(), p.Lang) {
		return fmt.Errorf("--lang %q is unknown; use %s", p.Lang, strings.Join(languages(), ", "))
	}
	if !slices.Contains(hostabi.Points(), hostabi.Point(p.Point)) {
		return fmt.Errorf("--point %q is unknown; use one of %v", p.Point, hostabi.Points())
	}
	return nil
}

// begin writes the project; a directory that exists must be empty.
func (c *command) begin(dir string, p project) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s exists and is not empty; choose another name or remove it", dir)
	}
	if err := p.renderAll(dir); err != nil {
		return err
	}
	if c.SDK == nil {
		return errors.New("this binary was built without its payload, so the project has no SDK; build cleat with `make build`")
	}
	if err := p.unpackSDK(c.SDK, filepath.Join(dir, "sdk")); err != nil {
		return fmt.Errorf("SDK: %w", err)
	}
	return nil
}

// renderAll fills in the templates of the project.
func (p project) renderAll(dir string) error {
	language := path.Join("templates/languages", p.Lang)
	for _, from := range []string{path.Join("templates/points", p.Point), path.Join(language, sharedFiles), path.Join(language, p.Point)} {
		if err := p.render(from, dir); err != nil {
			return err
		}
	}
	return nil
}

// render fills in the templates below from.
func (p project) render(from, dir string) error {
	return fs.WalkDir(templates, from, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := templates.ReadFile(name)
		if err != nil {
			return err
		}
		t, err := template.New(name).Delims("[[", "]]").Parse(string(text))
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, p); err != nil {
			return err
		}
		to := strings.TrimSuffix(strings.TrimPrefix(name, from+"/"), templateSuffix)
		if path.Base(to) == "gitignore" {
			to = path.Join(path.Dir(to), ".gitignore")
		}
		return writeNew(filepath.Join(dir, filepath.FromSlash(to)), b.Bytes())
	})
}

func writeNew(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// unpackSDK writes the part of the SDK archive that the language needs: for Go
// the modules hostabi and pluginsdk, for any other pluginsdk/<language>, and
// ABI.md for all.
func (p project) unpackSDK(open func() (io.ReadCloser, error), dir string) (err error) {
	packed, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, packed.Close()) }()
	plain, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer plain.Close()
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		to, ok := p.sdkFile(header.Name)
		if !ok || header.Typeflag != tar.TypeReg {
			continue
		}
		if header.Size > maxSDK || !filepath.IsLocal(to) {
			return fmt.Errorf("%s does not belong there", header.Name)
		}
		data, err := io.ReadAll(archive)
		if err == nil {
			err = writeNew(filepath.Join(dir, to), data)
		}
		if err != nil {
			return err
		}
	}
}

// sdkFile is where a file of the archive goes below sdk, if the language needs it.
func (p project) sdkFile(name string) (string, bool) {
	if name == "hostabi/ABI.md" && p.Lang != "go" {
		return "ABI.md", true
	}
	if p.Lang != "go" {
		return strings.CutPrefix(name, "pluginsdk/"+p.Lang+"/")
	}
	for _, other := range languages() {
		if other != "go" && strings.HasPrefix(name, "pluginsdk/"+other+"/") {
			return "", false
		}
	}
	return name, true
}
