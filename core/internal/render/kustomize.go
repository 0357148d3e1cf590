package render

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/hostabi"
)

// kustomizeRoot is where the tree stands in the file system that kustomize sees.
const kustomizeRoot = "/"

// kustomization builds the kustomization at a path of the tree.
func kustomization(files map[string][]byte, req hostabi.KustomizeRequest) ([]json.RawMessage, error) {
	at := "."
	if req.Path != "" {
		if at = path.Clean(req.Path); !fs.ValidPath(at) {
			return nil, fmt.Errorf("path %q leads out of the directory", req.Path)
		}
	}
	tree := filesys.MakeFsInMemory()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !fs.ValidPath(name) {
			return nil, fmt.Errorf("file name %q is no path below the directory", name)
		}
		if slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(name)) {
			if err := checkKustomization(name, files[name]); err != nil {
				return nil, err
			}
		}
		if err := tree.WriteFile(kustomizeRoot+name, files[name]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // the file's choice, else that of `kustomize build`
	options.LoadRestrictions = types.LoadRestrictionsRootOnly
	options.PluginConfig = types.DisabledPluginConfig()
	built, err := krusty.MakeKustomizer(options).Run(tree, path.Join(kustomizeRoot, at))
	if err != nil {
		return nil, explainKustomize(err)
	}
	b := newBudget()
	out := []json.RawMessage{}
	for _, r := range built.Resources() {
		raw, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.CurId(), err)
		}
		if err := b.spend(len(raw)); err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

// remote is what kustomize takes for a repository or an address.
var remote = regexp.MustCompile(`(?i)^(git::|gh:|github\.com[/:]|[a-z0-9+.-]+://|[a-z0-9_.-]+@)`)

// checkKustomization refuses, in words, what would have to leave the directory
// or run a program. What it overlooks fails all the same, since the process can
// do neither.
func checkKustomization(name string, text []byte) error {
	var k map[string]any
	if err := yaml.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, field := range []string{"helmCharts", "helmChartInflationGenerator", "helmGlobals"} {
		if _, ok := k[field]; ok {
			return fmt.Errorf("%s: %s is not supported: put the chart's .tgz beside the directory instead", name, field)
		}
	}
	for _, field := range append(fileLists(), "patches", "patchesJson6902", "replacements", "openapi", "configMapGenerator", "secretGenerator") {
		if err := checkReferences(k[field], field); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// fileLists are the fields of a kustomization that list files and directories.
func fileLists() []string {
	return []string{
		"resources", "bases", "components", "configurations", "crds", "generators", "transformers", "validators", "patchesStrategicMerge",
	}
}

// fileFields name files inside other fields.
func fileFields() []string { return append(fileLists(), "path", "files", "envs", "env") }

func checkReferences(value any, field string) error {
	switch v := value.(type) {
	case string:
		// Text of several lines is an object or patch written in place.
		if slices.Contains(fileFields(), field) && !strings.Contains(v, "\n") {
			_, file, named := strings.Cut(v, "=") // a generator's key=file
			if !named {
				file = v
			}
			if remote.MatchString(v) || remote.MatchString(file) {
				return fmt.Errorf("%s: %q is not in the directory: nothing is fetched, so put a copy of it there", field, v)
			}
		}
	case []any:
		for _, e := range v {
			if err := checkReferences(e, field); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key == "options" {
				continue // labels and annotations
			}
			if err := checkReferences(v[key], key); err != nil {
				return err
			}
		}
	}
	return nil
}

// explainKustomize adds what kustomize cannot know.
func explainKustomize(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "too many open files"):
		return fmt.Errorf("it wants to read something outside the directory, which is not possible: %w", err)
	case types.IsErrOnlyBuiltinPluginsAllowed(err):
		return fmt.Errorf("it uses a plugin of kustomize, and only the built-in ones are run: %w", err)
	}
	return err
}
