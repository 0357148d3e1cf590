package conformance

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

// asked is what every check that puts questions needs: a plugin that answers
// the smallest one.
func asked() []string { return []string{"core/smallest-input"} }

// hookChecks are about hooks of every point.
func hookChecks() []check {
	return []check{
		core("core/deadline", "Rules",
			"A hook returns within the deadline of the manifest when it is given the smallest input.", []string{"core/init-succeeds"}, checkDeadline),
		core("core/hooks-return", "Rules",
			"A hook returns; a trap is a fault of the plugin, never a verdict.", []string{"core/deadline"}, checkHooksReturn),
		core("core/result-known", "Exports",
			"A hook returns 0, 1 or a negative error number, and a plan hook that returns 0 has set an output that is its plan.",
			[]string{"core/hooks-return"}, checkResultKnown),
		core("core/smallest-input", "object_get",
			"An absent value is tag 0, which is no error: an admission hook comes to a verdict on an empty object.",
			[]string{"core/result-known"}, checkSmallestInput),
		core("core/buffer-protocol", "Rules",
			"When a host function answers with more than the size of the buffer, the guest calls again with a larger one.", asked(), checkBuffers),
		core("core/unknown-fields", "Rules",
			"Fields are only added: a plan hook decides the same when its input has fields it does not know.", asked(), checkUnknownFields),
		core("core/cases", "Exports",
			"The plugin answers what its author says it answers.", asked(), checkCases),
	}
}

// askLeast puts the smallest question of each point.
func (s *subject) askLeast(ctx context.Context, g *guest) ([]answer, error) {
	const question = "the smallest input"
	var all []answer
	add := func(a answer, err error) error {
		all = append(all, a)
		return err
	}
	var errs []error
	if s.manifest.HasPoint(hostabi.PointAdmission) {
		base := s.bases()[0]
		base.Object = map[string]any{}
		for _, hook := range s.hooks() {
			errs = append(errs, add(g.admit(ctx, hook, question, base.admission())))
		}
	}
	if s.manifest.HasPoint(hostabi.PointDeployer) {
		errs = append(errs, add(g.render(ctx, question, s.deploy(""))))
	}
	if s.manifest.HasPoint(hostabi.PointCNI) {
		errs = append(errs, add(g.network(ctx, question, hostabi.CNIRequest{})))
	}
	if s.manifest.HasPoint(hostabi.PointDatastore) {
		errs = append(errs, add(g.datastore(ctx, question, hostabi.DatastoreRequest{})))
	}
	return all, errors.Join(errs...)
}

// attempts is how often a hook may try to meet its own deadline: a machine can
// be busy for a moment.
const attempts = 3

func checkDeadline(ctx context.Context, s *subject) (finding, error) {
	late := ""
	for range attempts {
		found, err := s.with(ctx, start{patience: 1}, func(g *guest) (finding, error) {
			var err error
			if s.least, err = s.askLeast(ctx, g); err != nil {
				return finding{}, err
			}
			for _, a := range s.least {
				if a.trouble != nil && a.trouble.Kind == pluginhost.FaultTimeout {
					late = a.String()
					return failed("%s", late)
				}
			}
			return passed("every hook returned in time")
		})
		if err != nil || found.result == Pass {
			return found, err
		}
	}
	return failed("%s", late)
}

// leastFails fails with the first of the smallest answers that is of a kind.
func (s *subject) leastFails(is func(answer) bool) (finding, error) {
	for _, a := range s.least {
		if is(a) {
			return failed("%s", a)
		}
	}
	return passed("%s", joined(s.least))
}

func joined(answers []answer) string {
	var texts []string
	for _, a := range answers {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, "; ")
}

func checkHooksReturn(_ context.Context, s *subject) (finding, error) {
	return s.leastFails(func(a answer) bool {
		return a.trouble != nil && a.trouble.Kind != pluginhost.FaultOutput && a.trouble.Kind != pluginhost.FaultError
	})
}

func checkResultKnown(_ context.Context, s *subject) (finding, error) {
	return s.leastFails(func(a answer) bool { return a.trouble != nil && a.trouble.Kind == pluginhost.FaultOutput })
}

func checkSmallestInput(_ context.Context, s *subject) (finding, error) {
	return s.leastFails(func(a answer) bool { return a.trouble != nil && strings.HasPrefix(a.hook, "cleat_admission_") })
}

// bufferSizes go past the buffers that guests usually begin with.
func bufferSizes() []int { return []int{100, 300, 600, 1200, 2500, 5000, 20_000, 70_000} }

// checkBuffers asks one instance with ever larger values and a new one with the
// largest, and wants both to decide the same.
func checkBuffers(ctx context.Context, s *subject) (finding, error) {
	grown, why, err := s.answersOf(ctx, bufferSizes())
	if err != nil {
		return finding{}, err
	}
	if why != "" {
		return failed("%s", why)
	}
	fresh, why, err := s.answersOf(ctx, bufferSizes()[len(bufferSizes())-1:])
	switch {
	case err != nil:
		return finding{}, err
	case why != "":
		return failed("on a new instance: %s", why)
	case !slices.Equal(grown, fresh):
		return failed("decided otherwise about a large value once its buffer had grown")
	}
	return passed("read values of up to %d bytes", bufferSizes()[len(bufferSizes())-1])
}

// answersOf asks one instance with values of each size, and returns the answers
// to the last. why tells of a fault.
func (s *subject) answersOf(ctx context.Context, sizes []int) (last []string, why string, err error) {
	_, err = s.with(ctx, start{}, func(g *guest) (finding, error) {
		for _, size := range sizes {
			answers, err := s.askSized(ctx, g, size)
			if err != nil {
				return finding{}, err
			}
			last = nil
			for _, a := range answers {
				// A plan point may refuse such an input, but has to have read it.
				if a.broke() || a.trouble != nil && strings.HasPrefix(a.hook, "cleat_admission_") {
					why = a.String()
					return failed("%s", why)
				}
				text, err := a.text()
				if err != nil {
					return finding{}, err
				}
				last = append(last, text)
			}
		}
		return passed("")
	})
	return last, why, err
}

func (s *subject) askSized(ctx context.Context, g *guest, size int) ([]answer, error) {
	var all []answer
	if s.manifest.HasPoint(hostabi.PointAdmission) {
		paths, err := s.readPaths()
		if err != nil {
			return nil, err
		}
		questions := s.inquiries(func(base Request) []inquiry {
			base.User = "conformance-" + strings.Repeat("u", size)
			base.Object = object(base, paths, 2, textual(strings.Repeat("x", size)))
			base.OldObject = olds(base, paths)
			return []inquiry{{name: "large values in a " + base.Kind, request: base}}
		})
		if _, err := g.each(ctx, questions, func(_ inquiry, a answer) string { all = append(all, a); return "" }); err != nil {
			return nil, err
		}
	}
	add := func(a answer, err error) error {
		all = append(all, a)
		return err
	}
	var errs []error
	if s.manifest.HasPoint(hostabi.PointDeployer) {
		content := configMap("large") + "# " + strings.Repeat("x", size) + "\n"
		errs = append(errs, add(g.render(ctx, "a large file", s.deploy(content))))
	}
	if s.manifest.HasPoint(hostabi.PointCNI) {
		req := usualNode()
		for len(req.Node.Addresses)*len("192.0.2.1") < size {
			req.Node.Addresses = append(req.Node.Addresses, "192.0.2.1")
		}
		errs = append(errs, add(g.network(ctx, "a node with many addresses", req)))
	}
	if s.manifest.HasPoint(hostabi.PointDatastore) {
		req := usualDatastore()
		req.DBDir = "/" + strings.Repeat("d/", size/2) + "db"
		errs = append(errs, add(g.datastore(ctx, "a directory with a long name", req)))
	}
	return all, errors.Join(errs...)
}

// checkUnknownFields asks the plan hooks with fields of a newer host.
func checkUnknownFields(ctx context.Context, s *subject) (finding, error) {
	inputs, err := s.planInputs()
	if err != nil {
		return finding{}, err
	}
	if len(inputs) == 0 {
		return inapplicable("has no plan hook")
	}
	for _, in := range inputs {
		newer, err := withUnknownFields(in.input)
		if err != nil {
			return finding{}, err
		}
		plain, err := s.ask(ctx, in)
		if err != nil {
			return finding{}, err
		}
		in.input = newer
		other, err := s.ask(ctx, in)
		if err != nil {
			return finding{}, err
		}
		is, err1 := other.JSON()
		want, err2 := plain.JSON()
		switch {
		case err1 != nil || err2 != nil:
			return finding{}, errors.Join(err1, err2)
		case other.Fault != nil && plain.Fault == nil:
			return failed("%s: %s fault on an input with more fields: %s", in.hook, other.Fault.Kind, other.Fault.Detail)
		case !bytes.Equal(is, want):
			return failed("%s decided otherwise when its input had more fields", in.hook)
		}
	}
	return passed("decided the same with and without them")
}

// planInputs are typical inputs of the plan hooks the plugin has.
func (s *subject) planInputs() ([]raw, error) {
	var all []raw
	add := func(hook string, input any) error {
		text, err := hostabi.AppendJSON(nil, input)
		all = append(all, raw{hook: hook, input: text})
		return err
	}
	var errs []error
	if s.manifest.HasPoint(hostabi.PointDeployer) {
		errs = append(errs, add(hostabi.ExportDeployerRender, s.typicalFiles()[0].DeployRequest))
	}
	if s.manifest.HasPoint(hostabi.PointCNI) {
		req := usualNode()
		req.Plugin = s.manifest.Name
		errs = append(errs, add(hostabi.ExportCNIPlan, req))
	}
	if s.manifest.HasPoint(hostabi.PointDatastore) {
		errs = append(errs, add(hostabi.ExportDatastorePlan, usualDatastore()))
	}
	return all, errors.Join(errs...)
}

// withUnknownFields adds fields of every JSON type to an object and to the
// objects in it whose fields have a meaning.
func withUnknownFields(input []byte) ([]byte, error) {
	value, err := hostabi.ParseJSON(input)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("the input is no JSON object")
	}
	for _, o := range []any{object, object["node"]} {
		if m, ok := o.(map[string]any); ok {
			m["a_newer_text"], m["a_newer_number"], m["a_newer_flag"], m["a_newer_null"] = "text", int64(1)<<40, true, nil
			m["a_newer_list"] = []any{"a", map[string]any{"b": []any{}}}
			m["zz_newer_object"] = map[string]any{"file": "x", "content": "y", "plugin": "z", "endpoint": "e"}
		}
	}
	return hostabi.AppendJSON(nil, object)
}

// twice asks two new instances the same and wants the same answers.
func (s *subject) twice(ctx context.Context, ask func(*guest) ([]answer, error)) (finding, error) {
	var runs [2][]string
	for i := range runs {
		found, err := s.with(ctx, start{}, func(g *guest) (finding, error) {
			answers, err := ask(g)
			if err != nil {
				return finding{}, err
			}
			for _, a := range answers {
				text, err := a.text()
				if err != nil {
					return finding{}, err
				}
				runs[i] = append(runs[i], text)
			}
			return passed("")
		})
		if err != nil || found.result == Fail {
			return found, err
		}
	}
	if !slices.Equal(runs[0], runs[1]) {
		return failed("answered otherwise on a second new instance")
	}
	return passed("gave %d answers twice", len(runs[0]))
}
