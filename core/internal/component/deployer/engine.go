package deployer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/crd"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
	// lastRender spaces attempts at rendering, which fail the same way again
	// unless the machine was busy, and may take as long as a plugin may.
	lastRender = 10 * time.Minute
)

// engine is the state of one run. Only the goroutine of Run uses it.
type engine struct {
	cluster   *cluster
	render    extension.Deployer
	variables map[string]string
	server    string // this node's name, by which Addons tell whose they are
	dir       string
	disabled  map[string]bool // stems
	event     eventFunc
	log       *slog.Logger
	now       func() time.Time

	scanner   *scanner
	claims    []hostabi.DeployerManifest // of the last turn
	round     int                        // counts the changes of claims
	last      *snapshot
	rendered  map[string]*rendering // by rel
	addons    map[string]*addonState
	collision map[string]string // rel -> the refusal that was logged
}

// rendering is what the plugin made of one version of a file.
type rendering struct {
	checksum string
	claimed  bool
	objects  []*unstructured.Unstructured
	err      error
	retry    retry
}

// addonState is what is known of an Addon, in the cluster or about to be.
type addonState struct {
	addon   *crd.Addon // as in the cluster, nil until it is written
	done    string     // fingerprint of what was applied without an error by this process
	tried   string     // fingerprint of the last attempt
	lastErr string     // what was reported last
	retry   retry
	unknown bool // failed for a kind that was not served
}

func (s *addonState) inventory() []crd.ObjectRef {
	if s.addon == nil {
		return nil
	}
	return s.addon.Status.Objects
}

func (s *addonState) source() string {
	if s.addon == nil {
		return ""
	}
	return s.addon.Spec.Source
}

// retry spaces attempts at what failed.
type retry struct {
	wait time.Duration
	at   time.Time // zero = no retry is due
}

func (r *retry) failed(now time.Time) { r.failedUpTo(now, lastRetry) }

func (r *retry) failedUpTo(now time.Time, most time.Duration) {
	r.wait = min(max(2*r.wait, firstRetry), most)
	r.at = now.Add(r.wait)
}

func (r *retry) due(now time.Time) bool { return !r.at.IsZero() && !now.Before(r.at) }

// load reads the Addons that earlier runs, and other servers, left.
func (e *engine) load(ctx context.Context) error {
	addons, err := e.cluster.listAddons(ctx)
	if err != nil {
		return err
	}
	e.addons = make(map[string]*addonState, len(addons))
	for name, a := range addons {
		e.addons[name] = &addonState{addon: a}
	}
	return nil
}

// turn looks at the directory and acts if anything changed or is due. It
// returns when to look again. An error means that the directory could not be read.
func (e *engine) turn(ctx context.Context) (next time.Time, err error) {
	claims := e.render.Claims()
	snap, err := e.scanner.scan(claims, e.sources())
	if err != nil {
		return e.now().Add(scanInterval), err
	}
	changed := e.last == nil || !snap.equal(e.last)
	if !reflect.DeepEqual(claims, e.claims) {
		// Other plugins may see other objects in the same files.
		e.claims, changed = claims, true
		e.round++
		clear(e.rendered)
	}
	e.last = snap
	if changed || e.anyDue() {
		e.pass(ctx, snap)
	}
	next = e.now().Add(scanInterval)
	if snap.settle {
		next = e.now().Add(settleTime / 2)
	}
	for at := range e.retries() {
		if at.Before(next) {
			next = at
		}
	}
	return next, nil
}

// sources are the paths that the Addons of this server come from.
func (e *engine) sources() map[string]bool {
	out := make(map[string]bool, len(e.addons))
	for _, s := range e.addons {
		if s.addon != nil && s.addon.Spec.Server == e.server {
			out[s.source()] = true
		}
	}
	return out
}

func (e *engine) retries() map[time.Time]bool {
	out := map[time.Time]bool{}
	for _, s := range e.addons {
		if !s.retry.at.IsZero() {
			out[s.retry.at] = true
		}
	}
	for _, r := range e.rendered {
		if !r.retry.at.IsZero() {
			out[r.retry.at] = true
		}
	}
	return out
}

func (e *engine) anyDue() bool {
	now := e.now()
	for at := range e.retries() {
		if !now.Before(at) {
			return true
		}
	}
	return false
}

// pass brings the cluster in line with a snapshot: first every file is applied,
// then what nobody declares any more is deleted, so that an object that moved
// from one file to another is handed over and not deleted.
func (e *engine) pass(ctx context.Context, snap *snapshot) {
	files := e.countingFiles(ctx, snap)
	owner, refused := assignAddons(files, func(addon string) string {
		if s := e.addons[addon]; s != nil {
			return s.source()
		}
		return ""
	})
	e.reportCollisions(owner, refused)

	claims := make([]claim, 0, len(owner)+len(e.addons))
	jobs := make(map[string]*job, len(owner))
	for name, f := range owner {
		j := e.newJob(name, f, snap)
		jobs[name] = j
		claims = append(claims, j.claim())
	}
	var gone []string
	for name, s := range e.addons {
		if owner[name] != nil {
			continue
		}
		if s.addon == nil {
			delete(e.addons, name) // a file that went before it was ever applied
			continue
		}
		leaves := e.leaves(name, s, snap)
		if leaves {
			gone = append(gone, name)
		}
		claims = append(claims, claim{addon: name, source: s.source(), holds: keysOf(s.inventory()), frozen: !leaves, gone: leaves})
	}
	assigned := assignObjects(claims)

	newKinds := false
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		newKinds = e.applyJob(ctx, jobs[name], assigned) || newKinds
		if ctx.Err() != nil {
			return
		}
	}
	if newKinds {
		for _, s := range e.addons {
			if s.unknown {
				s.retry.at = e.now()
			}
		}
	}
	slices.Sort(gone)
	for _, name := range gone {
		e.deleteGone(ctx, name, assigned)
		if ctx.Err() != nil {
			return
		}
	}
}

// countingFiles returns the files that stand for an addon, rendered where that
// is needed.
func (e *engine) countingFiles(ctx context.Context, snap *snapshot) []*manifestFile {
	var out []*manifestFile
	for rel := range e.rendered {
		if snap.files[rel] == nil {
			delete(e.rendered, rel)
		}
	}
	for _, f := range snap.sorted() {
		known := e.addons[addonName(f.rel)] != nil
		switch {
		case e.disabled[stem(f.rel)]:
			continue
		case f.pending || snap.skipped[f.rel]:
			out = append(out, f)
			continue
		case f.err != nil:
			if known || f.kind != hostabi.DeployKindFile || isManifestName(f.rel) {
				out = append(out, f)
			}
			continue
		}
		if r := e.renderFile(ctx, f); r.claimed || r.err != nil || known {
			out = append(out, f)
		}
	}
	return out
}

// renderFile asks the plugin what the file holds, once for each content.
func (e *engine) renderFile(ctx context.Context, f *manifestFile) *rendering {
	r := e.rendered[f.rel]
	if r != nil && r.checksum == f.checksum && !r.retry.due(e.now()) {
		return r
	}
	if r == nil || r.checksum != f.checksum {
		r = &rendering{checksum: f.checksum}
		e.rendered[f.rel] = r
	}
	result, claimed, err := e.ask(ctx, f)
	r.claimed, r.objects, r.err = claimed, nil, err
	if err == nil && claimed {
		r.objects, r.err = decodeObjects(result.Objects)
	}
	r.retry.at = time.Time{}
	if err != nil {
		// The plugin may have run into its deadline on a busy machine.
		r.retry.failedUpTo(e.now(), lastRender)
	}
	for _, w := range result.Warnings {
		e.log.Warn("manifest warning", "file", f.path, "warning", clip(w, maxMessage))
	}
	if err == nil && !claimed {
		e.log.Info("ignored: no deployer plugin knows what it is", "file", f.path)
	}
	return r
}

// ask puts a file, archive or directory to the plugins.
func (e *engine) ask(ctx context.Context, f *manifestFile) (hostabi.DeployResult, bool, error) {
	tree, err := f.tree()
	if err != nil {
		return hostabi.DeployResult{}, false, err
	}
	return e.render.Render(ctx, extension.DeployInput{Tree: tree, DeployRequest: hostabi.DeployRequest{
		Kind: f.kind, File: filepath.Base(f.path), Addon: stem(f.rel), Content: f.content,
		Files: f.names(), Companions: maps.Clone(f.companions), Variables: maps.Clone(e.variables),
	}})
}

// leaves reports whether an Addon without a file is to go with its objects.
func (e *engine) leaves(name string, s *addonState, snap *snapshot) bool {
	if s.addon.Spec.Server != e.server {
		return false
	}
	rel, err := filepath.Rel(e.dir, s.addon.Spec.Source)
	inside := err == nil && filepath.IsLocal(rel)
	if e.disabled[stem(s.addon.Spec.Source)] {
		return true
	}
	if inside {
		return !snap.skipped[filepath.ToSlash(rel)]
	}
	// Another data directory's: leave what is still there to whoever uses it.
	if _, err := os.Lstat(s.addon.Spec.Source); err == nil {
		if s.lastErr == "" {
			s.lastErr = "source outside"
			e.log.Warn("addon comes from another manifests directory and is left alone", "addon", name, "file", s.addon.Spec.Source)
		}
		return false
	}
	return true
}

func (e *engine) reportCollisions(owner map[string]*manifestFile, refused map[string]error) {
	for rel, err := range refused {
		if e.collision[rel] == err.Error() {
			continue
		}
		e.collision[rel] = err.Error()
		e.log.Error("manifest is not applied", "file", filepath.Join(e.dir, rel), "error", err)
		if s := e.addons[addonName(rel)]; s != nil && s.addon != nil && owner[s.addon.Name] != nil {
			e.event(s.addon, true, reasonApplyFailed, err.Error())
		}
	}
	for rel := range e.collision {
		if refused[rel] == nil {
			delete(e.collision, rel)
		}
	}
}

// deleteGone deletes the objects of an Addon whose file is gone, and then it.
func (e *engine) deleteGone(ctx context.Context, name string, assigned map[objectKey]string) {
	s := e.addons[name]
	log := e.log.With("addon", name, "file", s.source())
	if s.tried == fingerprintGone && !s.retry.due(e.now()) {
		return
	}
	s.retry.at = time.Time{}
	if s.tried != fingerprintGone {
		s.tried, s.done, s.lastErr, s.retry = fingerprintGone, "", "", retry{}
		e.event(s.addon, false, reasonDeleting, "Deleting the objects of "+s.source())
	}
	list := pruneList(s.inventory(), nil, name, assigned)
	err := e.prune(ctx, log, name, list)
	if err == nil {
		err = e.cluster.deleteAddon(ctx, s.addon)
	}
	if err != nil {
		s.retry.failed(e.now())
		e.report(ctx, s, log, reasonDeleteFailed, s.addon.Status.ObservedChecksum, s.inventory(), err)
		return
	}
	log.Info("manifest removed", "objects", len(list))
	delete(e.addons, name)
}

// prune deletes the objects in the given order.
func (e *engine) prune(ctx context.Context, log *slog.Logger, addon string, list []crd.ObjectRef) error {
	var errs []error
	for _, ref := range list {
		why, err := e.cluster.remove(ctx, ref, addon)
		switch {
		case err != nil:
			errs = append(errs, err)
		case why != "":
			log.Info("object is not deleted", "object", keyOf(ref).String(), "why", why)
		default:
			log.Info("object deleted", "object", keyOf(ref).String())
		}
	}
	return errors.Join(errs...)
}
