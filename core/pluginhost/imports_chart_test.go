package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// fixedRenderer answers with what it was asked.
type fixedRenderer struct{ calls int }

func (r *fixedRenderer) Helm(ctx context.Context, tree fs.FS, req hostabi.HelmRequest) (hostabi.HelmResult, error) {
	r.calls++
	if _, bounded := ctx.Deadline(); !bounded {
		return hostabi.HelmResult{}, errors.New("without a deadline")
	}
	if req.Release == "bad" {
		return hostabi.HelmResult{}, errors.New("chart: no good")
	}
	where := "request"
	if tree != nil {
		content, err := fs.ReadFile(tree, "Chart.yaml")
		if err != nil {
			return hostabi.HelmResult{}, err
		}
		where = string(content)
	}
	return hostabi.HelmResult{Objects: []json.RawMessage{[]byte(fmt.Sprintf(`{"from":%q}`, where))}}, nil
}

func (r *fixedRenderer) Kustomize(_ context.Context, _ fs.FS, req hostabi.KustomizeRequest) ([]json.RawMessage, error) {
	r.calls++
	if req.Path != "" {
		return nil, errors.New("kustomization: no good")
	}
	return nil, nil
}

// renderGuest calls a render function with text. Its answer is what it rendered,
// or with result the number that the function returned.
func renderGuest(function, text string, result bool) guesttest.Guest {
	const room = 4096
	m := guesttest.Cold("chart", hostabi.PointDeployer)
	m.ABI.Minor = 1
	m.Deployer = &hostabi.DeployerManifest{Archives: []string{"*.tgz"}, Directories: []string{"Chart.yaml"}}
	render := func(limit int32) []byte {
		return guesttest.Code(guesttest.I32(guesttest.DataAddress), guesttest.I32(int32(len(text))), guesttest.I32(room), guesttest.I32(limit), guesttest.Call(0))
	}
	code := render(room)
	if !result {
		// With too little room first, as a guest does that guesses.
		code = guesttest.Code(render(0), guesttest.Drop(), guesttest.I32(room), render(room), guesttest.Call(1), guesttest.Drop(), guesttest.I32(0))
	}
	return guesttest.Guest{
		Manifest: m,
		Imports:  []guesttest.Import{guesttest.HostFunction(hostabi.ModuleRender, function), guesttest.HostFunction(hostabi.ModuleCore, "output_set")},
		Hooks:    map[string][]byte{hostabi.ExportDeployerRender: code},
		Data:     []byte(text),
	}
}

func chartInput(content string) extension.DeployInput {
	in := extension.DeployInput{Tree: fstest.MapFS{"Chart.yaml": {Data: []byte(content)}}}
	in.Kind, in.File, in.Files = hostabi.DeployKindDirectory, "web", []string{"Chart.yaml"}
	return in
}

func TestRenderHelm(t *testing.T) {
	r := &fixedRenderer{}
	h := lockOf(t, renderGuest("render_helm", `{"release":"web","namespace":"a"}`, false).Wasm()).open(t, func(o *Options) { o.Renderer = r })
	for i, content := range []string{"one", "two"} {
		res, claimed, err := h.Render(t.Context(), chartInput(content))
		if err != nil || !claimed || len(res.Objects) != 1 || string(res.Objects[0]) != `{"from":"`+content+`"}` {
			t.Errorf("got %s, %v, %v", res.Objects, claimed, err)
		}
		if r.calls != i+1 {
			t.Errorf("rendered %d times for %d questions", r.calls, i+1)
		}
	}
	in := chartInput("x")
	in.Files = []string{"templates/Chart.yaml"}
	if _, claimed, err := h.Render(t.Context(), in); claimed || err != nil || r.calls != 2 {
		t.Errorf("what nobody claims was offered: %v, %v", claimed, err)
	}
}

func TestRenderRefuses(t *testing.T) {
	with := func(o *Options) { o.Renderer = &fixedRenderer{} }
	noTree := chartInput("")
	noTree.Tree = nil
	for name, tc := range map[string]struct {
		function, text string
		in             extension.DeployInput
		open           func(*Options)
		why            string
	}{
		"error":               {"render_helm", `{"release":"bad"}`, chartInput(""), with, "chart: no good"},
		"kustomize error":     {"render_kustomize", `{"path":"x"}`, chartInput(""), with, "kustomization: no good"},
		"no JSON":             {"render_helm", `{"release":`, chartInput(""), with, "the request to the renderer"},
		"wrong type":          {"render_helm", `{"release":1}`, chartInput(""), with, "the request to the renderer"},
		"no tree":             {"render_helm", `{"release":"web"}`, noTree, with, "ENOTSUP"},
		"kustomize, no tree":  {"render_kustomize", `{}`, noTree, with, "ENOTSUP"},
		"no renderer":         {"render_helm", `{"release":"web"}`, chartInput(""), func(*Options) {}, "ENOTSUP"},
		"archive in request":  {"render_helm", `{"release":"web","archive":"eA=="}`, noTree, with, "which is no result"},
		"kustomize, no error": {"render_kustomize", `{}`, chartInput(""), with, "returned 2, which is no result"},
	} {
		t.Run(name, func(t *testing.T) {
			h := lockOf(t, renderGuest(tc.function, tc.text, true).Wasm()).open(t, tc.open)
			_, claimed, err := h.Render(t.Context(), tc.in)
			if err == nil || claimed || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
		})
	}
}
