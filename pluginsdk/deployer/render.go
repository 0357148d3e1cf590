package deployer

import (
	"encoding/json"
	"fmt"

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
	array, err := abi.Fill(2*len(text)+1024, func(buf []byte) int32 { return abi.RenderYAML(text, buf) })
	if err != nil {
		return nil, err
	}
	var documents []json.RawMessage
	if err := json.Unmarshal(array, &documents); err != nil {
		return nil, fmt.Errorf("decode what the host rendered: %w", wire.EIO)
	}
	return documents, nil
}
