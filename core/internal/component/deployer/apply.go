package deployer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// fingerprintGone marks an Addon that is being deleted; no checksum equals it.
const fingerprintGone = "gone"

var (
	errEmptyResult = errors.New("no deployer plugin claims it any more: its objects are left alone; enable the plugin again, or delete it")
	errInventory   = fmt.Errorf("the old and the new objects are more than %d together: apply the change in two steps", crd.MaxObjects)
)

// job is what one file asks for in one pass.
type job struct {
	addon     string
	file      *manifestFile
	state     *addonState
	rendering *rendering
	objects   []*unstructured.Unstructured // prepared; nil if the file is unusable
	frozen    bool
	reason    string // why the file is unusable, as an event's reason
	err       error
}

func (e *engine) newJob(name string, f *manifestFile, snap *snapshot) *job {
	s := e.addons[name]
	if s == nil {
		s = &addonState{}
		e.addons[name] = s
	}
	j := &job{addon: name, file: f, state: s, rendering: e.rendered[f.rel]}
	switch {
	case f.pending || snap.skipped[f.rel]:
		j.frozen = true
	case f.err != nil:
		j.frozen, j.reason, j.err = true, reasonReadFailed, f.err
	case j.rendering.err != nil:
		j.frozen, j.reason, j.err = true, reasonParseFailed, j.rendering.err
	case !j.rendering.claimed:
		j.frozen, j.reason, j.err = true, reasonParseFailed, errEmptyResult
	default:
		objects, err := prepare(j.rendering.objects, name, e.cluster.scope)
		if err != nil {
			j.frozen, j.reason, j.err = true, reasonParseFailed, err
		}
		j.objects = objects
	}
	return j
}

func (j *job) claim() claim {
	desires := make(map[objectKey]bool, len(j.objects))
	for _, o := range j.objects {
		desires[keyOf(refOf(o))] = true
	}
	return claim{addon: j.addon, source: j.file.path, holds: keysOf(j.state.inventory()), desires: desires, frozen: j.frozen}
}

// applyJob does what the file asks for, unless that has been done or has failed
// a moment ago. It reports whether new kinds came into the cluster.
func (e *engine) applyJob(ctx context.Context, j *job, assigned map[objectKey]string) (newKinds bool) {
	s := j.state
	if j.frozen && j.err == nil {
		return false
	}
	mine, refusals := e.divide(j, assigned)
	fingerprint := fmt.Sprintf("%s %d", j.file.checksum, e.round)
	for _, err := range append(refusals, j.err) {
		if err != nil {
			fingerprint += "|" + err.Error()
		}
	}
	if s.done == fingerprint || (s.tried == fingerprint && !s.retry.due(e.now())) {
		return false
	}
	log := e.log.With("addon", j.addon, "file", j.file.path)
	first := s.tried != fingerprint
	if first {
		s.retry = retry{}
	}
	s.tried, s.done, s.unknown = fingerprint, "", false
	s.retry.at = time.Time{}

	if err := e.writeSpec(ctx, j); err != nil {
		s.retry.failed(e.now())
		e.report(ctx, s, log, reasonApplyFailed, j.file.checksum, s.inventory(), err)
		return false
	}
	if j.err != nil {
		e.report(ctx, s, log, j.reason, j.file.checksum, s.inventory(), j.err)
		return false
	}
	// A restart applies again what is already there: that is no news.
	quiet := s.addon.Status.ObservedChecksum == j.file.checksum && s.addon.Status.LastError == ""
	if first && !quiet {
		e.event(s.addon, false, reasonApplying, "Applying "+j.file.path)
	}
	start := e.now()
	inventory, newKinds, err := e.applyObjects(ctx, j, mine)
	if err == nil && len(refusals) == 0 {
		err = e.prune(ctx, log, j.addon, pruneList(s.inventory(), inventory, j.addon, assigned))
	}
	if err != nil {
		s.retry.failed(e.now())
		s.unknown = errors.Is(err, errUnknownKind)
	}
	if err = errors.Join(append(refusals, err)...); err != nil {
		e.report(ctx, s, log, reasonApplyFailed, j.file.checksum, merge(s.inventory(), inventory), err)
		return newKinds
	}
	s.retry = retry{}
	s.done = fingerprint
	if !quiet {
		e.event(s.addon, false, reasonApplied, "Applied "+j.file.path)
	}
	log.Info("manifest applied", "objects", describe(mine), "took", e.now().Sub(start).Round(time.Millisecond))
	e.report(ctx, s, log, reasonApplied, j.file.checksum, inventory, nil)
	return newKinds
}

// divide splits what the file declares into what it gets and why it does not
// get the rest.
func (e *engine) divide(j *job, assigned map[objectKey]string) (mine []*unstructured.Unstructured, refusals []error) {
	for _, o := range j.objects {
		key := keyOf(refOf(o))
		holder := assigned[key]
		if holder == j.addon {
			mine = append(mine, o)
			continue
		}
		source := "another file"
		if s := e.addons[holder]; s != nil && s.source() != "" {
			source = s.source()
		} else if f := e.fileOf(holder); f != "" {
			source = f
		}
		refusals = append(refusals, fmt.Errorf("%s belongs to %s (addon %s), so %s does not get it: keep it in one of the files", key, source, holder, j.file.path))
	}
	return mine, refusals
}

func (e *engine) fileOf(addon string) string {
	for _, f := range e.last.sorted() {
		if addonName(f.rel) == addon {
			return f.path
		}
	}
	return ""
}

// writeSpec makes sure that there is an Addon with this file in it. A file that
// cannot be used does not take an Addon from another server or file.
func (e *engine) writeSpec(ctx context.Context, j *job) error {
	want := crd.AddonSpec{Source: j.file.path, Checksum: j.file.checksum, Server: e.server}
	if a := j.state.addon; a != nil && (a.Spec == want || j.err != nil) {
		return nil
	}
	addon, err := e.cluster.putSpec(ctx, j.addon, want)
	if err != nil {
		return err
	}
	j.state.addon = addon
	return nil
}

// announce enters objects into the inventory before they are applied, so that a
// crash leaves none in the cluster that nobody remembers. Objects of unknown
// scope have no certain key yet and cannot be applied either.
func (e *engine) announce(ctx context.Context, s *addonState, objects []*unstructured.Unstructured) error {
	refs := make([]crd.ObjectRef, 0, len(objects))
	for _, o := range objects {
		if _, known := e.cluster.scope(o.GroupVersionKind()); known {
			refs = append(refs, refOf(o))
		}
	}
	all := merge(s.inventory(), refs)
	if len(all) > crd.MaxObjects {
		return errInventory
	}
	if slices.Equal(keysSorted(all), keysSorted(s.inventory())) {
		return nil
	}
	status := s.addon.Status
	status.Objects = all
	addon, err := e.cluster.putStatus(ctx, s.addon.Name, status)
	if err != nil {
		return err
	}
	s.addon = addon
	return nil
}

func keysSorted(refs []crd.ObjectRef) []string {
	out := make([]string, 0, len(refs))
	for key := range keysOf(refs) {
		out = append(out, key.String())
	}
	slices.Sort(out)
	return out
}

// applyObjects applies namespaces and custom resource definitions first, waits
// for the latter to be served, and then applies the rest. One object's failure
// does not keep the others out. It returns what is in the cluster now.
func (e *engine) applyObjects(ctx context.Context, j *job, mine []*unstructured.Unstructured) (inventory []crd.ObjectRef, newKinds bool, err error) {
	if err := e.announce(ctx, j.state, mine); err != nil {
		return nil, false, err
	}
	early := slices.IndexFunc(mine, func(o *unstructured.Unstructured) bool { return rank(refOf(o)) > 1 })
	if early < 0 {
		early = len(mine)
	}
	var errs []error
	var definitions []string
	for _, o := range mine[:early] {
		ref, err := e.applyObject(ctx, j, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		inventory = append(inventory, ref)
		if definesKinds(ref) {
			definitions = append(definitions, ref.Name)
		}
	}
	for _, name := range definitions {
		if err := crd.WaitEstablished(ctx, e.cluster.dynamic, name); err != nil {
			errs = append(errs, err)
		}
	}
	rest := mine[early:]
	if e.anyUnknown(rest) {
		e.cluster.forgetKinds()
		if rest, err = e.settleScopes(ctx, j, rest); err != nil {
			errs = append(errs, err)
		}
	}
	for _, o := range rest {
		ref, err := e.applyObject(ctx, j, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		inventory = append(inventory, ref)
		newKinds = newKinds || definesKinds(ref)
	}
	if len(definitions) > 0 || newKinds {
		e.cluster.forgetKinds()
	}
	return inventory, newKinds || len(definitions) > 0, errors.Join(errs...)
}

func (e *engine) anyUnknown(objects []*unstructured.Unstructured) bool {
	return slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool {
		_, known := e.cluster.scope(o.GroupVersionKind())
		return !known
	})
}

// settleScopes gives objects of kinds that have just become known the namespace
// that they were waiting for, and announces them.
func (e *engine) settleScopes(ctx context.Context, j *job, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	settled, err := prepare(objects, j.addon, e.cluster.scope)
	if err != nil {
		return nil, err
	}
	return settled, e.announce(ctx, j.state, settled)
}

// applyObject applies one object that the planner gave to this file.
func (e *engine) applyObject(ctx context.Context, j *job, o *unstructured.Unstructured) (crd.ObjectRef, error) {
	result, err := e.cluster.apply(ctx, o, j.addon, func(other string) error {
		if e.addons[other] != nil {
			return nil // the planner weighed its claim
		}
		source, exists, err := e.cluster.addonSource(ctx, other)
		if err != nil || !exists {
			return err
		}
		return fmt.Errorf("it belongs to %s (addon %s), so %s does not get it: keep it in one of the files", source, other, j.file.path)
	})
	if err != nil {
		return crd.ObjectRef{}, err
	}
	if result.took != "" {
		e.log.Warn("fields were taken back for a manifest", "addon", j.addon, "file", j.file.path, "conflict", clip(result.took, maxMessage))
		e.event(j.state.addon, true, reasonTookBack, result.took)
	}
	return result.ref, nil
}

// disabledStems returns the names of --disable as a set; k3s takes a list in
// one value too.
func disabledStems(values []string) map[string]bool {
	out := map[string]bool{}
	for _, value := range values {
		for _, name := range splitList(value) {
			out[name] = true
		}
	}
	return out
}

// unknownDisables returns the names of --disable that nothing answers to.
func unknownDisables(disabled map[string]bool, known ...map[string]bool) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(disabled)) {
		if !slices.ContainsFunc(known, func(k map[string]bool) bool { return k[name] }) {
			out = append(out, name)
		}
	}
	return out
}
