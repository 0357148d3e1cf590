package crictl

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// said confirms what was done by its ID, as crictl does, so that the output can
// be piped.
func (a *app) said(format string, args ...any) error {
	_, err := fmt.Fprintf(a.stdio.Out, format+"\n", args...)
	return err
}

func (a *app) stopCommand() *cobra.Command {
	var timeout int64
	cmd := &cobra.Command{
		Use: "stop CONTAINER-ID...", Short: "Stop containers", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			runtime, err := a.runtimeService(cmd.Context())
			if err != nil {
				return err
			}
			return each(args, func(id string) error {
				if err := runtime.StopContainer(cmd.Context(), id, timeout); err != nil {
					return fmt.Errorf("stop container %s: %w", id, err)
				}
				return a.said("%s", id)
			})
		},
	}
	cmd.Flags().Int64VarP(&timeout, "timeout", "t", 0, "seconds to wait before the container is killed")
	return cmd
}

func (a *app) stoppCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stopp POD-ID...", Short: "Stop pods", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			runtime, err := a.runtimeService(cmd.Context())
			if err != nil {
				return err
			}
			return each(args, func(id string) error {
				if err := runtime.StopPodSandbox(cmd.Context(), id); err != nil {
					return fmt.Errorf("stop pod %s: %w", id, err)
				}
				return a.said("Stopped sandbox %s", id)
			})
		},
	}
}

// needTargets checks that either IDs were given or --all.
func needTargets(args []string, all bool) error {
	if all == (len(args) > 0) {
		return errors.New("name what to remove, or use --all, but not both")
	}
	return nil
}

func (a *app) rmCommand() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use: "rm CONTAINER-ID...", Short: "Remove containers",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needTargets(args, all); err != nil {
				return err
			}
			ctx := cmd.Context()
			runtime, err := a.runtimeService(ctx)
			if err != nil {
				return err
			}
			if all {
				list, err := runtime.ListContainers(ctx, nil)
				if err != nil {
					return fmt.Errorf("list containers: %w", err)
				}
				for _, c := range list {
					args = append(args, c.GetId())
				}
			}
			return each(args, func(id string) error {
				r, err := runtime.ContainerStatus(ctx, id, false)
				if err != nil {
					return fmt.Errorf("remove container %s: %w", id, err)
				}
				if r.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_RUNNING {
					if !force {
						return fmt.Errorf("remove container %s: it is running: stop it first, or use --force", id)
					}
					if err := runtime.StopContainer(ctx, id, 0); err != nil {
						return fmt.Errorf("stop container %s: %w", id, err)
					}
				}
				if err := runtime.RemoveContainer(ctx, id); err != nil {
					return fmt.Errorf("remove container %s: %w", id, err)
				}
				return a.said("%s", id)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all containers")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also those that run")
	return cmd
}

func (a *app) rmpCommand() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use: "rmp POD-ID...", Short: "Remove pods",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needTargets(args, all); err != nil {
				return err
			}
			ctx := cmd.Context()
			runtime, err := a.runtimeService(ctx)
			if err != nil {
				return err
			}
			if all {
				list, err := runtime.ListPodSandbox(ctx, nil)
				if err != nil {
					return fmt.Errorf("list pods: %w", err)
				}
				for _, p := range list {
					args = append(args, p.GetId())
				}
			}
			return each(args, func(id string) error {
				r, err := runtime.PodSandboxStatus(ctx, id, false)
				if err != nil {
					return fmt.Errorf("remove pod %s: %w", id, err)
				}
				if r.GetStatus().GetState() == runtimeapi.PodSandboxState_SANDBOX_READY {
					if !force {
						return fmt.Errorf("remove pod %s: it is running: stop it first, or use --force", id)
					}
					if err := runtime.StopPodSandbox(ctx, id); err != nil {
						return fmt.Errorf("stop pod %s: %w", id, err)
					}
				}
				if err := runtime.RemovePodSandbox(ctx, id); err != nil {
					return fmt.Errorf("remove pod %s: %w", id, err)
				}
				return a.said("Removed sandbox %s", id)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all pods")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also those that run")
	return cmd
}

func (a *app) rmiCommand() *cobra.Command {
	var all, prune bool
	cmd := &cobra.Command{
		Use: "rmi IMAGE...", Short: "Remove images",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needTargets(args, all || prune); err != nil {
				return err
			}
			images, err := a.imageService(cmd.Context())
			if err != nil {
				return err
			}
			if all || prune {
				if args, err = a.removable(cmd, prune); err != nil {
					return err
				}
			}
			return each(args, func(id string) error {
				r, err := images.ImageStatus(cmd.Context(), &runtimeapi.ImageSpec{Image: id}, false)
				if err != nil {
					return fmt.Errorf("remove image %s: %w", id, err)
				}
				if r.GetImage() == nil {
					return fmt.Errorf("no such image %q present", id)
				}
				if err := images.RemoveImage(cmd.Context(), &runtimeapi.ImageSpec{Image: id}); err != nil {
					return fmt.Errorf("remove image %s: %w", id, err)
				}
				names := r.GetImage().GetRepoTags()
				if len(names) == 0 {
					names = []string{id}
				}
				return each(names, func(name string) error { return a.said("Deleted: %s", name) })
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all images")
	cmd.Flags().BoolVarP(&prune, "prune", "q", false, "all images that no container uses")
	return cmd
}

// removable returns the IDs of all images but the pinned ones, which the node
// cannot work without; with unused, also but those that a container has.
func (a *app) removable(cmd *cobra.Command, unused bool) ([]string, error) {
	images, err := a.imageService(cmd.Context())
	if err != nil {
		return nil, err
	}
	list, err := images.ListImages(cmd.Context(), nil)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	used := map[string]bool{}
	if unused {
		runtime, err := a.runtimeService(cmd.Context())
		if err != nil {
			return nil, err
		}
		containers, err := runtime.ListContainers(cmd.Context(), nil)
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		for _, c := range containers {
			for _, name := range []string{c.GetImage().GetImage(), c.GetImageRef(), c.GetImageId()} {
				used[name] = true
			}
		}
	}
	var out []string
	for _, image := range list {
		names := slices.Concat([]string{image.GetId()}, image.GetRepoTags(), image.GetRepoDigests())
		if !image.GetPinned() && !slices.ContainsFunc(names, func(n string) bool { return used[n] }) {
			out = append(out, image.GetId())
		}
	}
	return out, nil
}

func (a *app) pullCommand() *cobra.Command {
	var credentials, auth string
	var annotations map[string]string
	cmd := &cobra.Command{
		Use: "pull IMAGE", Short: "Pull an image", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := parseAuth(credentials, auth)
			if err != nil {
				return err
			}
			images, err := a.imageService(cmd.Context())
			if err != nil {
				return err
			}
			id, err := images.PullImage(cmd.Context(), &runtimeapi.ImageSpec{Image: args[0], Annotations: annotations}, config, nil)
			if err != nil {
				return fmt.Errorf("pull image %s: %w", args[0], err)
			}
			return a.said("Image is up to date for %s", id)
		},
	}
	cmd.Flags().StringVar(&credentials, "creds", "", "USER[:PASSWORD] for the registry")
	cmd.Flags().StringVar(&auth, "auth", "", "base64 of USER:PASSWORD, as in a Docker configuration")
	cmd.Flags().StringToStringVarP(&annotations, "annotation", "a", nil, "annotation of the request, key=value")
	return cmd
}

// parseAuth returns nil if neither flag is given. Errors do not repeat the values.
func parseAuth(credentials, auth string) (*runtimeapi.AuthConfig, error) {
	switch {
	case credentials != "" && auth != "":
		return nil, errors.New("--creds and --auth cannot both be given")
	case credentials != "":
		user, password, _ := strings.Cut(credentials, ":")
		if user == "" {
			return nil, errors.New("--creds: user is missing: want USER[:PASSWORD]")
		}
		return &runtimeapi.AuthConfig{Username: user, Password: password}, nil
	case auth != "":
		if _, err := base64.StdEncoding.DecodeString(auth); err != nil {
			return nil, errors.New("--auth is not base64 of USER:PASSWORD")
		}
		return &runtimeapi.AuthConfig{Auth: auth}, nil
	}
	return nil, nil
}
