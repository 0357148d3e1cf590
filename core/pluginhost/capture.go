package pluginhost

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/hostabi"
)

// CaptureMode says which calls are kept for a replay.
type CaptureMode string

// The capture modes.
const (
	CaptureOff       CaptureMode = "off"
	CaptureFaults    CaptureMode = "faults"
	CaptureDecisions CaptureMode = "decisions" // denials, mutations and faults
)

// Bounds of captures.
const (
	captureVersion  = 1
	maxCaptures     = 256     // files; the oldest go first
	MaxCaptureBytes = 4 << 20 // one file
	captureSuffix   = ".json"
)

// Capture is one call of a hook with all it depended on, in the form it is kept
// on disk. It holds what the plugin could see, not the whole request, and no
// secret: neither the data of a Secret, nor values of environment variables,
// nor what an authenticator added to a user.
type Capture struct {
	Version  int              `json:"version"`
	ID       string           `json:"id"`
	Time     time.Time        `json:"time"` // at which the hook was entered
	Plugin   CapturedPlugin   `json:"plugin"`
	Hook     string           `json:"hook"`
	Rules    uint64           `json:"rules,omitempty"`
	Request  *CapturedRequest `json:"request,omitempty"` // admission
	Input    json.RawMessage  `json:"input,omitempty"`   // plan hooks
	Seen     *sightings       `json:"seen,omitempty"`
	Seed     string           `json:"seed"`     // of random, hex
	Instance string           `json:"instance"` // of what WASI calls random, hex
	Redacted bool             `json:"redacted,omitempty"`
	Outcome  Outcome          `json:"outcome"`
}

// CapturedPlugin says which plugin it was.
type CapturedPlugin struct {
	Name         string `json:"name"`
	PluginVer    string `json:"version"`
	SHA256       string `json:"sha256"`
	ConfigSHA256 string `json:"config_sha256"`
}

// CapturedRequest is an admission request as far as the plugin could see it.
type CapturedRequest struct {
	ID              string            `json:"id"`
	Operation       hostabi.Operation `json:"operation"`
	Group           string            `json:"group,omitempty"`
	APIVersion      string            `json:"api_version"`
	Kind            string            `json:"kind"`
	Resource        string            `json:"resource"`
	Subresource     string            `json:"subresource,omitempty"`
	Namespace       string            `json:"namespace,omitempty"`
	Name            string            `json:"name,omitempty"`
	User            string            `json:"user"`
	UserUID         string            `json:"user_uid,omitempty"`
	Groups          []string          `json:"groups,omitempty"`
	DryRun          bool              `json:"dry_run,omitempty"`
	Object          json.RawMessage   `json:"object,omitempty"`
	OldObject       json.RawMessage   `json:"old_object,omitempty"`
	NamespaceLabels map[string]string `json:"namespace_labels,omitempty"`
}

// newCall makes the call of a hook, which notes what it sees when calls are
// captured.
func (h *Host) newCall(hook hookKind, req *request) *call {
	c := &call{hook: hook, request: req}
	if h.capturing() {
		c.seen = &sightings{}
	}
	return c
}

func (h *Host) capturing() bool { return h.captureDir != "" && h.captureMode != CaptureOff }

// faulted counts a fault, captures its call and tells who watches.
func (h *Host) faulted(g *generation, p *plugin, c *call, f *Fault) {
	p.stats.faults.Add(1)
	id := ""
	if f.Kind != FaultBusy && f.Kind != FaultOpen {
		id = h.keep(p, c, 0, f)
	}
	h.onTrial(g, p, f)
	h.notify(Notice{Kind: NoticeFault, Plugin: p.locked.Name, Version: p.locked.Version, Detail: f.describe(), Advice: f.Advice, Capture: id})
}

// keepDecision captures a denial or mutation when decisions are captured.
func (h *Host) keepDecision(p *plugin, c *call, verdict int32) {
	if h.captureMode == CaptureDecisions {
		h.keep(p, c, verdict, nil)
	}
}

// keep writes a capture in the background and returns its id, "" if none is
// taken.
func (h *Host) keep(p *plugin, c *call, result int32, f *Fault) string {
	if !h.capturing() || c.seen == nil || c.hook == hookDatastore {
		return ""
	}
	capture, err := p.capture(c, result, f)
	if err != nil {
		p.log.Warn("call was not captured", "error", err)
		return ""
	}
	text, err := hostabi.AppendJSON(nil, capture)
	if err != nil || len(text) > MaxCaptureBytes {
		p.log.Warn("call was not captured", "bytes", len(text), "error", err)
		return ""
	}
	if !h.background.try(func() { h.writeCapture(p, capture.ID, text) }) {
		return ""
	}
	p.log.Info("call captured", "hook", capture.Hook, "verdict", capture.Outcome.Verdict, "capture", capture.ID)
	return capture.ID
}

func (p *plugin) capture(c *call, result int32, f *Fault) (*Capture, error) {
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	var err error
	if f != nil {
		err = f
	}
	capture := &Capture{
		Version: captureVersion, ID: p.locked.Name + "-" + hex.EncodeToString(id[:]), Time: c.begin.UTC(),
		Plugin: CapturedPlugin{p.locked.Name, p.locked.Version, p.locked.SHA256, p.locked.ConfigSHA256},
		Hook:   c.hook.export(), Rules: c.rules, Seen: c.seen,
		Seed: hex.EncodeToString(c.seed[:]), Instance: hex.EncodeToString(c.instance[:]),
		Outcome: outcomeOf(c, result, err),
	}
	capture.Redacted = c.seen.Redacted
	if c.hook.plan() {
		capture.Input = c.input
		if bytes.Contains(c.input, []byte("Secret")) {
			capture.Input, capture.Redacted = json.RawMessage(`"`+redacted+`"`), true
		}
		return capture, nil
	}
	if c.found == nil {
		return nil, errors.New("the hook was not entered")
	}
	return capture, capture.fill(p, c.found)
}

// fill takes from the request what the plugin could read of it.
func (capture *Capture) fill(p *plugin, r *request) error {
	object, err := r.object()
	if err != nil {
		return err
	}
	old, err := r.oldObject()
	if err != nil {
		return err
	}
	labels, err := r.namespaceLabels()
	if err != nil {
		return err
	}
	whole := slices.Contains(p.locked.Capabilities, hostabi.ModuleObjectJSON)
	paths := slices.Concat(p.readPaths, p.writePaths)
	part := func(object map[string]any) (json.RawMessage, error) {
		if object == nil {
			return nil, nil
		}
		if whole {
			object, _ = copyJSON(object).(map[string]any)
		} else {
			object = prune(object, paths)
		}
		capture.Redacted = redactObject(object, r.Group == "" && r.Resource == "secrets") || capture.Redacted
		return hostabi.AppendJSON(nil, object)
	}
	capture.Request = &CapturedRequest{
		ID: r.ID, Operation: r.Operation, Group: r.Group, APIVersion: r.Version, Kind: r.Kind,
		Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name,
		User: r.UserName, UserUID: r.UserUID, Groups: r.UserGroups, DryRun: r.DryRun,
		NamespaceLabels: labels,
	}
	if capture.Request.Object, err = part(object); err == nil && whole {
		capture.Request.OldObject, err = part(old)
	}
	return err
}

// writeCapture stores a capture and removes the oldest beyond the bound.
func (h *Host) writeCapture(p *plugin, id string, text []byte) {
	err := os.MkdirAll(h.captureDir, 0o700)
	if err == nil {
		err = atomicfile.WriteFile(filepath.Join(h.captureDir, id+captureSuffix), text, 0o600)
	}
	if err == nil {
		err = dropOldest(h.captureDir, maxCaptures)
	}
	if err != nil {
		p.log.Warn("call was not captured", "error", err)
	}
}

func dropOldest(dir string, keep int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type file struct {
		name string
		time time.Time
	}
	var files []file
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), captureSuffix) {
			files = append(files, file{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return a.time.Compare(b.time) })
	for len(files) > keep {
		if err := os.Remove(filepath.Join(dir, files[0].name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		files = files[1:]
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
