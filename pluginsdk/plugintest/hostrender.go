//go:build !wasip1

package plugintest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// rendered is the answer to the last render call: a guest whose buffer was too
// small asks again with the same text.
type rendered struct{ what, from, text string }

// render answers a render function; make returns what is to be JSON.
func (h *fakeHost) render(what, text string, buf []byte, make func() (any, error)) int32 {
	if !h.allows(hostabi.ModuleRender) {
		return int32(hostabi.EACCES)
	}
	if len(text) > hostabi.MaxMessageBytes {
		return int32(hostabi.E2BIG)
	}
	if h.rendered.what != what || h.rendered.from != text {
		v, err := make()
		var errno hostabi.Errno
		if errors.As(err, &errno) {
			return int32(errno)
		}
		if err != nil {
			h.errorText = cut(err.Error(), hostabi.MaxTextBytes)
			return int32(hostabi.EINVAL)
		}
		answer, err := hostabi.AppendJSON(nil, v)
		if err != nil {
			return int32(hostabi.EIO)
		}
		// The guest may use the memory of text again.
		h.rendered = rendered{what, strings.Clone(text), string(answer)}
	}
	if len(h.rendered.text) > hostabi.MaxMessageBytes {
		return int32(hostabi.E2BIG)
	}
	return fill(buf, h.rendered.text)
}

func (h *fakeHost) RenderYAML(text string, buf []byte) int32 {
	return h.render("yaml", text, buf, func() (any, error) {
		if h.plugin.RenderYAML != nil {
			return h.plugin.RenderYAML(text)
		}
		return jsonDocuments(text)
	})
}

func (h *fakeHost) RenderHelm(text string, buf []byte) int32 {
	return h.render("helm", text, buf, func() (any, error) {
		return renderInput(h, text, h.plugin.RenderHelm)
	})
}

func (h *fakeHost) RenderKustomize(text string, buf []byte) int32 {
	return h.render("kustomize", text, buf, func() (any, error) {
		return renderInput(h, text, h.plugin.RenderKustomize)
	})
}

// renderInput asks what stands in for a renderer of the hook's input.
func renderInput[Req, Res any](h *fakeHost, text string, render func(hostabi.DeployRequest, Req) (Res, error)) (any, error) {
	if h.deploy == nil || render == nil {
		return nil, hostabi.ENOTSUP
	}
	var req Req
	if err := json.Unmarshal([]byte(text), &req); err != nil {
		return nil, err
	}
	return render(*h.deploy, req)
}

// jsonDocuments reads JSON documents divided by lines of three dashes; one
// without text is null.
func jsonDocuments(text string) ([]any, error) {
	documents := []any{}
	for part := range strings.SplitSeq("\n"+text, "\n---") {
		d := json.NewDecoder(bytes.NewReader([]byte(part)))
		for first := true; ; first = false {
			var raw json.RawMessage
			err := d.Decode(&raw)
			if errors.Is(err, io.EOF) {
				if first {
					documents = append(documents, nil)
				}
				break
			}
			if err != nil {
				return nil, err
			}
			v, err := hostabi.ParseJSON(raw)
			if err != nil {
				return nil, err
			}
			documents = append(documents, v)
		}
	}
	return documents, nil
}
