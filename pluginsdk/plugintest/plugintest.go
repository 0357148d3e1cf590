//go:build !wasip1

// Package plugintest runs a plugin natively under go test, against a host that
// holds the manifest: undeclared paths are refused, requests that match no rule
// do not enter. It runs what the init functions of the package under test
// registered.
//
// What it cannot show is left to the real host: CEL match conditions count as
// true, and YAML is read only where it is JSON, unless Plugin.RenderYAML says
// otherwise.
package plugintest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/guest"
)

// Plugin is the plugin under test, started.
type Plugin struct {
	Manifest hostabi.Manifest
	// RenderYAML stands in for the host function render_yaml. When nil, the
	// text must be JSON documents.
	RenderYAML func(text string) ([]any, error)
	// RenderHelm and RenderKustomize stand in for render_helm and
	// render_kustomize; in is what the running hook was asked about. An error is
	// what the renderer would tell the operator. When nil, the functions answer
	// ENOTSUP, as a host without a renderer does.
	RenderHelm      func(in hostabi.DeployRequest, req hostabi.HelmRequest) (hostabi.HelmResult, error)
	RenderKustomize func(in hostabi.DeployRequest, req hostabi.KustomizeRequest) ([]json.RawMessage, error)
	// Now is the time at which hooks are entered; the zero time stands for the
	// beginning of 2000, so that golden answers stay what they are.
	Now time.Time
	// Random is read by the host function random; when nil, every call of a
	// hook gets the same bytes.
	Random io.Reader
	// Objects are what lookups find in the cluster, each as JSON with
	// apiVersion, kind and metadata.name.
	Objects []string
	// State is the plugin's state. What a hook sets is added once it has
	// decided.
	State map[string][]byte
	// ClusterErrno, when not 0, is what lookups and state answer: EIO for a
	// cluster that cannot be asked yet, ENOTSUP for none.
	ClusterErrno hostabi.Errno
	// Logs are the lines the plugin has logged.
	Logs []string

	config     []byte
	paths      []hostabi.FieldPath // by path id
	readPaths  []hostabi.FieldPath
	writePaths []hostabi.FieldPath
}

// running lets one hook run at a time, as in one instance: what a plugin
// registered is state of its package.
var running sync.Mutex

// New reads the manifest file, checks the configuration against it and starts
// the plugin as the host would. It fails the test when the plugin does not
// start.
func New(t testing.TB, manifestFile string, config map[string]any) *Plugin {
	t.Helper()
	p, err := Start(manifestFile, config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Start is New for a test that wants the plugin's refusal.
func Start(manifestFile string, config map[string]any) (*Plugin, error) {
	text, err := os.ReadFile(manifestFile)
	if err != nil {
		return nil, err
	}
	manifest, err := hostabi.ParseManifest(text)
	if err != nil {
		return nil, err
	}
	p := &Plugin{Manifest: manifest}
	if p.config, err = manifest.ResolveConfig(config); err != nil {
		return nil, err
	}
	if manifest.Admission != nil {
		if p.readPaths, err = parsePaths(manifest.Admission.ReadPaths); err != nil {
			return nil, err
		}
		if p.writePaths, err = parsePaths(manifest.Admission.WritePaths); err != nil {
			return nil, err
		}
	}
	h := &fakeHost{plugin: p, starting: true, clusterless: true}
	if n := h.run(guest.Init); n < 0 {
		return nil, h.failure(hostabi.ExportInit, n)
	}
	return p, nil
}

func parsePaths(texts []string) ([]hostabi.FieldPath, error) {
	paths := make([]hostabi.FieldPath, len(texts))
	for i, text := range texts {
		path, err := hostabi.ParseFieldPath(text)
		if err != nil {
			return nil, err
		}
		paths[i] = path
	}
	return paths, nil
}

// Datastore asks a datastore plugin; claimed is false when it left the request
// to another plugin.
func (p *Plugin) Datastore(req hostabi.DatastoreRequest) (plan hostabi.DatastorePlan, claimed bool, err error) {
	claimed, err = p.plan(hostabi.ExportDatastorePlan, &fakeHost{plugin: p, clusterless: true}, req, &plan)
	return plan, claimed, err
}

// CNI asks a cni plugin.
func (p *Plugin) CNI(req hostabi.CNIRequest) (plan hostabi.CNIPlan, claimed bool, err error) {
	claimed, err = p.plan(hostabi.ExportCNIPlan, &fakeHost{plugin: p}, req, &plan)
	return plan, claimed, err
}

// Deploy asks a deployer plugin. A request without Kind is one of a host of ABI
// 1.0. With Kind, it is an error to ask for what the manifest does not claim: no
// host would.
func (p *Plugin) Deploy(req hostabi.DeployRequest) (result hostabi.DeployResult, claimed bool, err error) {
	if err := p.offers(req); err != nil {
		return result, false, err
	}
	claimed, err = p.plan(hostabi.ExportDeployerRender, &fakeHost{plugin: p, deploy: &req}, req, &result)
	return result, claimed, err
}

func (p *Plugin) plan(export string, h *fakeHost, req, plan any) (claimed bool, err error) {
	input, err := json.Marshal(req)
	if err != nil {
		return false, err
	}
	if input, err = hostabi.Canonical(input); err != nil {
		return false, err
	}
	h.input = input
	switch n := h.run(func() int32 { return guest.Call(export, 0, 0) }); {
	case n < 0:
		return false, h.failure(export, n)
	case n == hostabi.PlanNotMine:
		return false, h.keepState()
	case n != hostabi.PlanDecided:
		return false, fmt.Errorf("%s returned %d", export, n)
	}
	if h.output == nil {
		return false, fmt.Errorf("%s decided without output_set", export)
	}
	if err := h.keepState(); err != nil {
		return false, err
	}
	return true, json.Unmarshal(h.output, plan)
}

// offers says why the host would not offer a file to the plugin, nil if it
// would.
func (p *Plugin) offers(req hostabi.DeployRequest) error {
	claims := hostabi.DefaultDeployer()
	if p.Manifest.Deployer != nil {
		claims = *p.Manifest.Deployer
	}
	fits := func(patterns []string, name string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			_, ok := hostabi.MatchPattern(pattern, name)
			return ok
		})
	}
	ok := false
	switch req.Kind {
	case "": // a host of ABI 1.0 offers any text file
		return nil
	case hostabi.DeployKindArchive:
		ok = fits(claims.Archives, req.File)
	case hostabi.DeployKindDirectory:
		ok = slices.ContainsFunc(req.Files, func(name string) bool { return fits(claims.Directories, name) })
	case hostabi.DeployKindFile:
		ok = fits(claims.Files, req.File)
	default:
		return fmt.Errorf("the kind of a deploy request is %q; use a DeployKind constant", req.Kind)
	}
	if !ok {
		return fmt.Errorf("the manifest does not claim %q; see deployer in manifest.json", req.File)
	}
	return nil
}

// run calls the guest with h as its host.
func (h *fakeHost) run(call func() int32) int32 {
	running.Lock()
	defer running.Unlock()
	defer abi.Use(h)()
	return call()
}

func (h *fakeHost) failure(export string, n int32) error {
	if h.errorText != "" {
		return fmt.Errorf("%s: %s", export, h.errorText)
	}
	return fmt.Errorf("%s: %w", export, hostabi.Errno(n))
}
