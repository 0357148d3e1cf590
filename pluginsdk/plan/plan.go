// Package plan holds what the packages of the cold extension points
// (datastore, cni, deployer) share. They are asked seldom and speak JSON.
package plan

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/guest"
)

// ErrNotMine is what a handler returns when the request is for another plugin.
var ErrNotMine = errors.New("not mine")

// Handler decides one request. An error reaches the operator as it is written:
// it names the field, the value and the way out.
type Handler[Request, Plan any] func(Request) (Plan, error)

// Register makes handler serve the export. The packages of the extension
// points call it.
func Register[Request, Plan any](export string, handler Handler[Request, Plan]) {
	guest.Register(export, func(int32, uint64) int32 {
		switch err := serve(handler); {
		case errors.Is(err, ErrNotMine):
			return hostabi.PlanNotMine
		case err != nil:
			return guest.FailWith(err)
		}
		return hostabi.PlanDecided
	})
}

func serve[Request, Plan any](handler Handler[Request, Plan]) error {
	input, err := abi.Fill(4096, abi.InputGet)
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	var req Request
	if err := json.Unmarshal(input, &req); err != nil {
		return fmt.Errorf("decode the request: %w", err)
	}
	plan, err := handler(req)
	if err != nil {
		return err
	}
	output, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("encode the plan: %w", err)
	}
	if n := abi.OutputSet(abi.View(output)); n < 0 {
		return fmt.Errorf("hand over the plan: %w", wire.Errno(n))
	}
	return nil
}

// Config decodes the plugin's configuration into v, as encoding/json does.
func Config(v any) error {
	text, err := pluginsdk.Config()
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("decode the configuration: %w", err)
	}
	return nil
}
