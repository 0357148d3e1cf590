package crictl

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type printFlags struct{ output, template string }

func (p *printFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&p.output, "output", "o", formatJSON, "output format: json, yaml or go-template")
	cmd.Flags().StringVar(&p.template, "template", "", "template for --output go-template")
}

// details joins a status with the runtime's own information, whose values are
// JSON documents or plain strings, at the same level.
func details(status json.RawMessage, info map[string]string) map[string]any {
	out := make(map[string]any, len(info)+1)
	for key, value := range info {
		if json.Valid([]byte(value)) {
			out[key] = json.RawMessage(value)
		} else {
			out[key] = value
		}
	}
	out["status"] = status
	return out
}

// statusJSON encodes a status with its points in time readable.
func statusJSON(m proto.Message, times map[string]int64) (json.RawMessage, error) {
	raw, err := toJSON(m)
	if err != nil || len(times) == 0 {
		return raw, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("decode status: %w", err)
	}
	for name, nanoseconds := range times {
		text := time.Time{}
		if nanoseconds != 0 {
			text = time.Unix(0, nanoseconds)
		}
		if fields[name], err = json.Marshal(text.UTC().Format(time.RFC3339Nano)); err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
	}
	return json.Marshal(fields)
}

func (a *app) inspectCommand() *cobra.Command {
	var p printFlags
	cmd := &cobra.Command{
		Use: "inspect CONTAINER-ID...", Short: "Show all there is to know of containers", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			runtime, err := a.runtimeService(cmd.Context())
			if err != nil {
				return err
			}
			return each(args, func(id string) error {
				r, err := runtime.ContainerStatus(cmd.Context(), id, true)
				if err != nil {
					return fmt.Errorf("inspect container %s: %w", id, err)
				}
				s := r.GetStatus()
				status, err := statusJSON(s, map[string]int64{
					"createdAt": s.GetCreatedAt(), "startedAt": s.GetStartedAt(), "finishedAt": s.GetFinishedAt(),
				})
				if err != nil {
					return err
				}
				return a.print(p.output, p.template, details(status, r.GetInfo()))
			})
		},
	}
	p.bind(cmd)
	return cmd
}

func (a *app) inspectpCommand() *cobra.Command {
	var p printFlags
	cmd := &cobra.Command{
		Use: "inspectp POD-ID...", Short: "Show all there is to know of pods", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			runtime, err := a.runtimeService(cmd.Context())
			if err != nil {
				return err
			}
			return each(args, func(id string) error {
				r, err := runtime.PodSandboxStatus(cmd.Context(), id, true)
				if err != nil {
					return fmt.Errorf("inspect pod %s: %w", id, err)
				}
				status, err := statusJSON(r.GetStatus(), map[string]int64{"createdAt": r.GetStatus().GetCreatedAt()})
				if err != nil {
					return err
				}
				return a.print(p.output, p.template, details(status, r.GetInfo()))
			})
		},
	}
	p.bind(cmd)
	return cmd
}

func (a *app) inspectiCommand() *cobra.Command {
	var p printFlags
	cmd := &cobra.Command{
		Use: "inspecti IMAGE...", Short: "Show all there is to know of images", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			images, err := a.imageService(cmd.Context())
			if err != nil {
				return err
			}
			return each(args, func(id string) error {
				r, err := images.ImageStatus(cmd.Context(), &runtimeapi.ImageSpec{Image: id}, true)
				if err != nil {
					return fmt.Errorf("inspect image %s: %w", id, err)
				}
				if r.GetImage() == nil {
					return fmt.Errorf("no such image %q present", id)
				}
				status, err := statusJSON(r.GetImage(), nil)
				if err != nil {
					return err
				}
				return a.print(p.output, p.template, details(status, r.GetInfo()))
			})
		},
	}
	p.bind(cmd)
	return cmd
}

func (a *app) imagefsinfoCommand() *cobra.Command {
	var p printFlags
	cmd := &cobra.Command{
		Use: "imagefsinfo", Short: "Show the space that images take", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := a.imageService(cmd.Context())
			if err != nil {
				return err
			}
			r, err := images.ImageFsInfo(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the image file system: %w", err)
			}
			status, err := statusJSON(r, nil)
			if err != nil {
				return err
			}
			return a.print(p.output, p.template, details(status, nil))
		},
	}
	p.bind(cmd)
	return cmd
}

func (a *app) infoCommand() *cobra.Command {
	var p printFlags
	var quiet bool
	cmd := &cobra.Command{
		Use: "info", Short: "Show the runtime's status and configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			runtime, err := a.runtimeService(cmd.Context())
			if err != nil {
				return err
			}
			r, err := runtime.Status(cmd.Context(), !quiet)
			if err != nil {
				return fmt.Errorf("ask for the runtime's status: %w", err)
			}
			status, err := statusJSON(r.GetStatus(), nil)
			if err != nil {
				return err
			}
			value := details(status, r.GetInfo())
			handlers, err := messages("runtimeHandlers", r.GetRuntimeHandlers())
			if err != nil {
				return err
			}
			value["runtimeHandlers"] = handlers["runtimeHandlers"]
			return a.print(p.output, p.template, value)
		},
	}
	p.bind(cmd)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "without the configuration")
	return cmd
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the runtime's version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			runtime, err := a.runtimeService(cmd.Context())
			if err != nil {
				return err
			}
			const version = "v1"
			r, err := runtime.Version(cmd.Context(), version)
			if err != nil {
				return fmt.Errorf("ask for the runtime's version: %w", err)
			}
			var errs []error
			for _, line := range [][2]string{
				{"Version", r.GetVersion()}, {"RuntimeName", r.GetRuntimeName()},
				{"RuntimeVersion", r.GetRuntimeVersion()}, {"RuntimeApiVersion", r.GetRuntimeApiVersion()},
			} {
				_, err := fmt.Fprintf(a.stdio.Out, "%s:  %s\n", line[0], line[1])
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
}
