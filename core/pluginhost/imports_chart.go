package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

var errNoTree = errors.New("the hook was not asked about a chart or directory")

// renderHelm answers render_helm.
func renderHelm(in *instance, stack []uint64) {
	renderInput(in, stack, "helm", func(ctx context.Context, req hostabi.HelmRequest) (any, error) {
		if req.Archive == "" && in.call.tree == nil {
			return nil, errNoTree
		}
		return in.plugin.host.renderer.Helm(ctx, in.call.tree, req)
	})
}

// renderKustomize answers render_kustomize.
func renderKustomize(in *instance, stack []uint64) {
	renderInput(in, stack, "kustomize", func(ctx context.Context, req hostabi.KustomizeRequest) (any, error) {
		if in.call.tree == nil {
			return nil, errNoTree
		}
		objects, err := in.plugin.host.renderer.Kustomize(ctx, in.call.tree, req)
		if objects == nil {
			objects = []json.RawMessage{}
		}
		return objects, err
	})
}

// renderInput has the renderer render what the running hook was asked about, as
// the request that the guest passes says.
func renderInput[Req any](in *instance, stack []uint64, what string, render func(context.Context, Req) (any, error)) {
	if in.call.hook != hookDeployer || in.plugin.host.renderer == nil {
		fail(stack, hostabi.ENOTSUP)
		return
	}
	if uint32(stack[1]) > hostabi.MaxMessageBytes {
		fail(stack, hostabi.E2BIG)
		return
	}
	text, ok := in.mem.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	// A guest whose buffer was too small asks again with the same text. In
	// another call the same text is about another tree. No YAML begins so.
	from := append([]byte("\xff"+what+strconv.FormatUint(uint64(in.call.handle), 10)+"\xff"), text...)
	if in.rendered == nil || !bytes.Equal(in.renderedFrom, from) {
		answer, err := renderAnswer(in, text, render)
		if errors.Is(err, errNoTree) {
			fail(stack, hostabi.ENOTSUP)
			return
		}
		if err != nil {
			in.call.errText = cut(err.Error(), hostabi.MaxTextBytes)
			fail(stack, hostabi.EINVAL)
			return
		}
		in.rendered, in.renderedFrom = answer, from
	}
	if len(in.rendered) > hostabi.MaxMessageBytes {
		fail(stack, hostabi.E2BIG)
		return
	}
	in.fill(stack, uint32(stack[2]), uint32(stack[3]), in.rendered)
}

func renderAnswer[Req any](in *instance, text []byte, render func(context.Context, Req) (any, error)) ([]byte, error) {
	canonical, err := hostabi.Canonical(text)
	if err != nil {
		return nil, fmt.Errorf("the request to the renderer: %w", err)
	}
	var req Req
	if err := json.Unmarshal(canonical, &req); err != nil {
		return nil, fmt.Errorf("the request to the renderer: %w", err)
	}
	// The guest needs some of its time to say what went wrong.
	left := time.Until(in.ctx.deadline)
	ctx, cancel := context.WithTimeout(in.ctx.Context, left-left/10)
	defer cancel()
	result, err := render(ctx, req)
	if err != nil {
		return nil, err
	}
	answer, err := hostabi.AppendJSON(nil, result)
	if err == nil {
		answer, err = hostabi.Canonical(answer)
	}
	if err != nil {
		return nil, fmt.Errorf("what was rendered: %w", err)
	}
	return answer, nil
}
