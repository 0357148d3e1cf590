package pluginhost

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// Replayed is what a replay came to.
type Replayed struct {
	Recorded Outcome
	Replayed Outcome
	// Same is whether the two are equal, byte for byte as JSON.
	Same bool
}

// ParseCapture reads a capture from disk or elsewhere.
func ParseCapture(text []byte) (*Capture, error) {
	if len(text) > MaxCaptureBytes {
		return nil, fmt.Errorf("capture: %d bytes, the most is %d", len(text), MaxCaptureBytes)
	}
	if _, err := hostabi.ParseJSON(text); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	var c Capture
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	if c.Version != captureVersion {
		return nil, fmt.Errorf("capture: version is %d, this build reads version %d", c.Version, captureVersion)
	}
	if c.Seen == nil {
		c.Seen = &sightings{}
	}
	return &c, nil
}

// Replay runs a captured call again, in a host of its own that opens nothing
// but the plugin locked, with the clock, the random numbers and the cluster of
// then. The plugin may be another version than the captured one, to see what it
// would do.
func Replay(ctx context.Context, o Options, locked LockedPlugin, capture *Capture) (_ Replayed, err error) {
	hook, ok := hookNamed(capture.Hook)
	if !ok {
		return Replayed{}, fmt.Errorf("capture: hook %q is none of this build's", cut(capture.Hook, 80))
	}
	seed, instance, err := capture.seeds()
	if err != nil {
		return Replayed{}, err
	}
	locked.Shadow, locked.Disabled = false, false
	lock, err := (&Lock{Version: LockVersion, Plugins: []LockedPlugin{locked}}).Marshal()
	if err != nil {
		return Replayed{}, err
	}
	o.Lock, o.LockFile = lock, ""
	o.Now = func() time.Time { return capture.Time }
	o.Cluster = seenCluster{capture.Seen}
	o.CaptureMode, o.Observe = CaptureOff, nil
	o.seed = func() [32]byte { return instance }
	h, err := Open(ctx, o)
	if err != nil {
		return Replayed{}, err
	}
	defer func() { err = errors.Join(err, h.Close(context.WithoutCancel(ctx))) }()
	h.seed = func() [32]byte { return seed }
	g := h.enter()
	defer g.leave()
	outcome, err := g.replay(ctx, hook, capture)
	if err != nil {
		return Replayed{}, err
	}
	was, err1 := capture.Outcome.JSON()
	is, err2 := outcome.JSON()
	return Replayed{capture.Outcome, outcome, bytes.Equal(was, is)}, errors.Join(err1, err2)
}

func (g *generation) replay(ctx context.Context, hook hookKind, capture *Capture) (Outcome, error) {
	c := &call{hook: hook}
	if hook.plan() {
		p := g.plugins[0]
		c.input = capture.Input
		result, err := p.invoke(ctx, c)
		return outcomeOf(c, result, err), nil
	}
	if len(g.admission.plugins) == 0 || capture.Request == nil {
		return Outcome{}, errors.New("capture: it is of an admission hook, which the plugin does not have or the capture does not describe")
	}
	req, err := capture.Request.request()
	if err != nil {
		return Outcome{}, err
	}
	c.request = req
	verdict, err := g.admission.plugins[0].verdict(ctx, c, capture.Rules)
	var fault *Fault
	if err != nil && !errors.As(err, &fault) {
		return Outcome{}, err
	}
	return outcomeOf(c, verdict, err), nil
}

func hookNamed(export string) (hookKind, bool) {
	for h := hookDatastore; h < hookCount; h++ {
		if h.export() == export {
			return h, true
		}
	}
	return 0, false
}

func (c *Capture) seeds() (seed, instance [32]byte, err error) {
	for _, s := range []struct {
		text string
		to   *[32]byte
	}{{c.Seed, &seed}, {c.Instance, &instance}} {
		raw, err := hex.DecodeString(strings.TrimSpace(s.text))
		if err != nil || len(raw) != len(s.to) {
			return seed, instance, errors.New("capture: seed and instance must be 64 hex digits")
		}
		copy(s.to[:], raw)
	}
	return seed, instance, nil
}

func parseObject(text json.RawMessage) (map[string]any, error) {
	if len(text) == 0 {
		return nil, nil
	}
	v, err := hostabi.ParseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("capture: object: %w", err)
	}
	object, ok := v.(map[string]any)
	if v != nil && !ok {
		return nil, errors.New("capture: object: not a JSON object")
	}
	return object, nil
}

func (r *CapturedRequest) request() (*request, error) {
	object, err := parseObject(r.Object)
	if err != nil {
		return nil, err
	}
	old, err := parseObject(r.OldObject)
	if err != nil {
		return nil, err
	}
	labels := r.NamespaceLabels
	return &request{AdmissionRequest: &extension.AdmissionRequest{
		ID: r.ID, Operation: r.Operation, Group: r.Group, Version: r.APIVersion, Kind: r.Kind,
		Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name,
		UserName: r.User, UserUID: r.UserUID, UserGroups: r.Groups, DryRun: r.DryRun,
		Object:          func() (map[string]any, error) { return object, nil },
		OldObject:       func() (map[string]any, error) { return old, nil },
		NamespaceLabels: func() (map[string]string, error) { return labels, nil },
	}}, nil
}
