package crictl

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Labels that the kubelet puts on containers.
const (
	labelPodName      = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
)

// listFlags are the flags that the lists share.
type listFlags struct {
	output, template           string
	quiet, noTrunc, latest     bool
	last                       int
	id, name, namespace, state string
	labels                     map[string]string
}

func (l *listFlags) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&l.output, "output", "o", formatTable, "output format: table, json, yaml or go-template")
	f.StringVar(&l.template, "template", "", "template for --output go-template")
	f.BoolVarP(&l.quiet, "quiet", "q", false, "only IDs")
	f.BoolVar(&l.noTrunc, "no-trunc", false, "whole IDs")
}

func (l *listFlags) bindFilters(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.id, "id", "", "only the one with this ID, or a beginning of it")
	f.StringVar(&l.name, "name", "", "only those whose name matches this regular expression")
	f.StringVarP(&l.state, "state", "s", "", "only those in this state")
	f.StringToStringVar(&l.labels, "label", nil, "only those with this label, key=value")
	f.BoolVarP(&l.latest, "latest", "l", false, "only the one made last")
	f.IntVarP(&l.last, "last", "n", 0, "only as many as this, those made last")
}

// newest sorts by time of creation, the newest first, and keeps as many as asked for.
func newest[T any](l *listFlags, list []T, created func(T) int64) []T {
	slices.SortStableFunc(list, func(a, b T) int {
		switch ca, cb := created(a), created(b); {
		case ca > cb:
			return -1
		case ca < cb:
			return 1
		}
		return 0
	})
	n := len(list)
	if l.last > 0 {
		n = min(n, l.last)
	}
	if l.latest {
		n = min(n, 1)
	}
	return list[:n]
}

// matcher compiles a filter; an empty one lets everything through.
func matcher(flag, expression string) (func(string) bool, error) {
	if expression == "" {
		return func(string) bool { return true }, nil
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", flag, expression, err)
	}
	return re.MatchString, nil
}

func (a *app) psCommand() *cobra.Command {
	var l listFlags
	var all bool
	var pod, image string
	cmd := &cobra.Command{
		Use: "ps", Short: "List containers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ps(cmd, &l, all, pod, image) },
	}
	l.bind(cmd)
	l.bindFilters(cmd)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that do not run")
	cmd.Flags().StringVarP(&pod, "pod", "p", "", "only those of the pod with this ID")
	cmd.Flags().StringVar(&image, "image", "", "only those of this image")
	cmd.Flags().StringVar(&l.namespace, "namespace", "", "only those whose pod's namespace matches this regular expression")
	return cmd
}

func (a *app) ps(cmd *cobra.Command, l *listFlags, all bool, pod, image string) error {
	filter := &runtimeapi.ContainerFilter{Id: l.id, PodSandboxId: pod, LabelSelector: l.labels}
	switch state := strings.ToUpper(l.state); {
	case state != "":
		number, ok := runtimeapi.ContainerState_value["CONTAINER_"+state]
		if !ok {
			return fmt.Errorf("--state %q: want created, running, exited or unknown", l.state)
		}
		filter.State = &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState(number)}
	case !all && !l.latest && l.last == 0 && l.id == "":
		filter.State = &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	}
	name, err := matcher("--name", l.name)
	if err != nil {
		return err
	}
	namespace, err := matcher("--namespace", l.namespace)
	if err != nil {
		return err
	}
	runtime, err := a.runtimeService(cmd.Context())
	if err != nil {
		return err
	}
	list, err := runtime.ListContainers(cmd.Context(), filter)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	list = slices.DeleteFunc(list, func(c *runtimeapi.Container) bool {
		return !name(c.GetMetadata().GetName()) || !namespace(c.GetLabels()[labelPodNamespace]) ||
			image != "" && !slices.Contains([]string{c.GetImage().GetImage(), c.GetImage().GetUserSpecifiedImage(), c.GetImageRef(), c.GetImageId()}, image)
	})
	list = newest(l, list, (*runtimeapi.Container).GetCreatedAt)
	if l.quiet {
		return ids(a.stdio.Out, list, (*runtimeapi.Container).GetId)
	}
	if l.output != formatTable {
		value, err := messages("containers", list)
		if err != nil {
			return err
		}
		return a.print(l.output, l.template, value)
	}
	rows := make([][]string, 0, len(list))
	for _, c := range list {
		shown := c.GetImage().GetUserSpecifiedImage()
		if shown == "" {
			shown = cut(c.GetImage().GetImage(), l.noTrunc || !strings.HasPrefix(c.GetImage().GetImage(), "sha256:"))
		}
		rows = append(rows, []string{
			cut(c.GetId(), l.noTrunc), shown, ago(c.GetCreatedAt(), time.Now()), stateName(c.GetState().String(), "CONTAINER_"),
			c.GetMetadata().GetName(), strconv.FormatUint(uint64(c.GetMetadata().GetAttempt()), 10),
			cut(c.GetPodSandboxId(), l.noTrunc), orUnknown(c.GetLabels()[labelPodName]), orUnknown(c.GetLabels()[labelPodNamespace]),
		})
	}
	return table(a.stdio.Out, []string{"CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"}, rows)
}

func (a *app) podsCommand() *cobra.Command {
	var l listFlags
	cmd := &cobra.Command{
		Use: "pods", Short: "List pods", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.pods(cmd, &l) },
	}
	l.bind(cmd)
	l.bindFilters(cmd)
	cmd.Flags().StringVar(&l.namespace, "namespace", "", "only those whose namespace matches this regular expression")
	return cmd
}

func (a *app) pods(cmd *cobra.Command, l *listFlags) error {
	filter := &runtimeapi.PodSandboxFilter{Id: l.id, LabelSelector: l.labels}
	if l.state != "" {
		number, ok := runtimeapi.PodSandboxState_value["SANDBOX_"+strings.ToUpper(l.state)]
		if !ok {
			return fmt.Errorf("--state %q: want ready or notready", l.state)
		}
		filter.State = &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState(number)}
	}
	name, err := matcher("--name", l.name)
	if err != nil {
		return err
	}
	namespace, err := matcher("--namespace", l.namespace)
	if err != nil {
		return err
	}
	runtime, err := a.runtimeService(cmd.Context())
	if err != nil {
		return err
	}
	list, err := runtime.ListPodSandbox(cmd.Context(), filter)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	list = slices.DeleteFunc(list, func(p *runtimeapi.PodSandbox) bool {
		return !name(p.GetMetadata().GetName()) || !namespace(p.GetMetadata().GetNamespace())
	})
	list = newest(l, list, (*runtimeapi.PodSandbox).GetCreatedAt)
	if l.quiet {
		return ids(a.stdio.Out, list, (*runtimeapi.PodSandbox).GetId)
	}
	if l.output != formatTable {
		value, err := messages("items", list)
		if err != nil {
			return err
		}
		return a.print(l.output, l.template, value)
	}
	rows := make([][]string, 0, len(list))
	for _, p := range list {
		handler := p.GetRuntimeHandler()
		if handler == "" {
			handler = "(default)"
		}
		rows = append(rows, []string{
			cut(p.GetId(), l.noTrunc), ago(p.GetCreatedAt(), time.Now()), stateName(p.GetState().String(), "SANDBOX_"),
			p.GetMetadata().GetName(), p.GetMetadata().GetNamespace(),
			strconv.FormatUint(uint64(p.GetMetadata().GetAttempt()), 10), handler,
		})
	}
	return table(a.stdio.Out, []string{"POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"}, rows)
}

func (a *app) imagesCommand() *cobra.Command {
	var l listFlags
	var digests bool
	cmd := &cobra.Command{
		Use: "images [REPOSITORY[:TAG]]", Aliases: []string{"image", "img"}, Short: "List images", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.listImages(cmd, &l, digests, args) },
	}
	l.bind(cmd)
	cmd.Flags().BoolVar(&digests, "digests", false, "also show digests")
	return cmd
}

func (a *app) listImages(cmd *cobra.Command, l *listFlags, digests bool, args []string) error {
	var filter *runtimeapi.ImageFilter
	if len(args) == 1 {
		filter = &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: args[0]}}
	}
	service, err := a.imageService(cmd.Context())
	if err != nil {
		return err
	}
	list, err := service.ListImages(cmd.Context(), filter)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	slices.SortStableFunc(list, func(x, y *runtimeapi.Image) int {
		return strings.Compare(firstOf(x.GetRepoTags())+x.GetId(), firstOf(y.GetRepoTags())+y.GetId())
	})
	if l.quiet {
		return ids(a.stdio.Out, list, (*runtimeapi.Image).GetId)
	}
	if l.output != formatTable {
		value, err := messages("images", list)
		if err != nil {
			return err
		}
		return a.print(l.output, l.template, value)
	}
	header := []string{"IMAGE", "TAG", "IMAGE ID", "SIZE"}
	if digests {
		header = []string{"IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE"}
	}
	var rows [][]string
	for _, image := range list {
		for _, reference := range references(image) {
			row := []string{reference.repository, reference.tag}
			if digests {
				row = append(row, cut(reference.digest, l.noTrunc))
			}
			rows = append(rows, append(row, cut(image.GetId(), l.noTrunc), size(image.GetSize())))
		}
	}
	return table(a.stdio.Out, header, rows)
}

type reference struct{ repository, tag, digest string }

// references returns a row for each of an image's tags, or one without a tag.
func references(image *runtimeapi.Image) []reference {
	repository, digest, _ := strings.Cut(firstOf(image.GetRepoDigests()), "@")
	var out []reference
	for _, name := range image.GetRepoTags() {
		repo, tag := name, none
		// A port also follows a colon, but before a slash.
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			repo, tag = name[:i], name[i+1:]
		}
		out = append(out, reference{repo, tag, orNone(digest)})
	}
	if len(out) == 0 {
		out = append(out, reference{orNone(repository), none, orNone(digest)})
	}
	return out
}

const none = "<none>"

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// stateName turns CONTAINER_RUNNING into Running.
func stateName(state, prefix string) string {
	name := strings.ToLower(strings.TrimPrefix(state, prefix))
	switch name {
	case "":
		return "Unknown"
	case "notready":
		return "NotReady"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// ids writes one ID per line.
func ids[T any](w io.Writer, list []T, id func(T) string) error {
	for _, item := range list {
		if _, err := fmt.Fprintln(w, id(item)); err != nil {
			return err
		}
	}
	return nil
}
