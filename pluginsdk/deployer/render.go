package deployer

import (
	"encoding/json"
	"fmt"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

// RenderYAML parses a stream of YAML or JSON documents in the host and returns
// one JSON value for each document, null for an empty one. A plugin that calls
// it imports, and must declare, the capability cleat_render_v1.
//
// When the text is malformed the error is wire.EINVAL; the host knows where, and
// tells the operator if the handler returns the error as it is.
func RenderYAML(text string) ([]json.RawMessage, error) {
	var documents []json.RawMessage
	err := render(2*len(text)+1024, text, abi.RenderYAML, &documents)
	return documents, err
}

// RenderHelm renders, in the host, the Helm chart that the running hook was
// asked about, or the archive that the request carries. Templates see neither
// network nor cluster. It needs ABI 1.1 and the capability cleat_render_v1;
// errors are as those of RenderYAML, and wire.ENOTSUP where there is no chart.
func RenderHelm(req hostabi.HelmRequest) (hostabi.HelmResult, error) {
	var result hostabi.HelmResult
	err := renderRequest(req, abi.RenderHelm, &result)
	return result, err
}

// RenderKustomize builds, in the host, the kustomization in the directory that
// the running hook was asked about, and returns its objects. Otherwise it is as
// RenderHelm.
func RenderKustomize(req hostabi.KustomizeRequest) ([]json.RawMessage, error) {
	var objects []json.RawMessage
	err := renderRequest(req, abi.RenderKustomize, &objects)
	return objects, err
}

type renderer func(text string, buf []byte) int32

func renderRequest(req any, host renderer, result any) error {
	text, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode the request to the renderer: %w", err)
	}
	return render(64<<10, abi.View(text), host, result)
}

// render has the host render text, with room for size bytes at first.
func render(size int, text string, host renderer, result any) error {
	answer, err := abi.Fill(size, func(buf []byte) int32 { return host(text, buf) })
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("decode what the host rendered: %w", wire.EIO)
	}
	return nil
}
