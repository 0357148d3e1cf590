package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/component/lookup"
	"github.com/cleat-dev/cleat/core/internal/component/plugins"
	"github.com/cleat-dev/cleat/core/internal/component/pluginstatus"
	"github.com/cleat-dev/cleat/core/internal/crd"
	"github.com/cleat-dev/cleat/core/internal/embed/payload"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/render"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
	"github.com/cleat-dev/cleat/hostabi"
)

// pluginSide joins the plugin host, once it is open, with the units that serve
// it and show it.
type pluginSide struct {
	cfg    *config.Config
	data   paths.Data
	log    *slog.Logger
	host   atomic.Pointer[pluginhost.Host]
	lookup *lookup.Component
	status *pluginstatus.Component

	reloading sync.Mutex

	mu   sync.Mutex
	last map[string]lastFault // by plugin
	// certified are the plugins, with their configuration, that passed.
	certified map[string]bool
}

type lastFault struct {
	version, text string
	at            time.Time
}

// newPluginSide makes the units; admin is the path of an administrator's
// kubeconfig.
func newPluginSide(cfg *config.Config, data paths.Data, admin string, store func() (lookup.Store, error), logger *slog.Logger) *pluginSide {
	s := &pluginSide{cfg: cfg, data: data, log: logger, last: map[string]lastFault{}, certified: map[string]bool{}}
	s.lookup = lookup.New(admin, s.lookups, store, logger)
	s.status = pluginstatus.New(admin, cfg.NodeName, s.statuses, logger)
	return s
}

// open opens the host for the configured lock, or for that of the embedded
// bundle, whose compiled code comes with it.
func (s *pluginSide) open(ctx context.Context) (plugins.Host, error) {
	options, err := pluginOptions(s.cfg, s.data, s.log)
	if err != nil {
		return nil, err
	}
	options.Cluster, options.Observe, options.Certify = s.lookup, s.observe, s.certify
	options.CaptureDir, options.CaptureMode = s.data.PluginCaptures(), pluginhost.CaptureMode(s.cfg.PluginsCapture)
	if s.cfg.PluginsLock != "" {
		options.LockFile = s.cfg.PluginsLock
	} else if options.Lock, err = payload.Lock(); err != nil {
		return nil, err
	}
	host, err := pluginhost.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	if !s.cfg.DisableAgent {
		if err := host.CheckCNI(s.cfg.CNI); err != nil {
			return nil, errors.Join(err, host.Close(ctx))
		}
	}
	if err := quirks.AddMetrics(host.Metrics()); err != nil {
		return nil, errors.Join(err, host.Close(ctx))
	}
	s.host.Store(host)
	return host, nil
}

// networkLock and networkPlugin are what agents ask of a server.
func (s *pluginSide) networkLock() ([]byte, error) {
	host := s.host.Load()
	if host == nil {
		return nil, errPluginsClosed
	}
	return host.NetworkLock(s.cfg.CNI)
}

func (s *pluginSide) networkPlugin(ctx context.Context, sha256 string) ([]byte, error) {
	host := s.host.Load()
	if host == nil {
		return nil, errPluginsClosed
	}
	return host.NetworkPlugin(ctx, sha256)
}

var errPluginsClosed = errors.New("the plugins are not open yet; try again in a moment")

// RenderWord makes this executable render one chart or kustomization and end,
// when it is the only argument. It is for the server itself.
const RenderWord = "render-child"

// RenderChild renders what comes on standard input and returns the exit code.
func RenderChild() int { return render.Child(os.Stdin, os.Stdout, os.Stderr) }

// Renderer renders charts and kustomizations in children of this process.
func Renderer() extension.Renderer {
	return render.New(render.Options{Command: []string{"/proc/self/exe", RenderWord}, KubeVersion: version.Kubernetes})
}

// pluginOptions are what every opening of the plugins has in common.
func pluginOptions(cfg *config.Config, data paths.Data, logger *slog.Logger) (pluginhost.Options, error) {
	bundle, err := payload.Plugins()
	if err != nil {
		return pluginhost.Options{}, err
	}
	compiled, err := payload.PluginCache()
	if err != nil {
		return pluginhost.Options{}, err
	}
	registries, err := registriesfile.Read(cfg.PrivateRegistry)
	if err != nil {
		return pluginhost.Options{}, err
	}
	source := &pluginregistry.Source{
		Store: pluginregistry.StoreIn(cfg.PluginsDir), PluginsDir: cfg.PluginsDir, Logger: logger,
		Client: pluginregistry.NewClient(pluginregistry.Options{Registries: registries, Logger: logger}),
	}
	lock, err := payload.Lock()
	if err != nil {
		return pluginhost.Options{}, err
	}
	return pluginhost.Options{
		Embedded: bundle, EmbeddedLock: lock, PluginsDir: cfg.PluginsDir, CacheDir: data.PluginCache(), CacheSeed: compiled, Logger: logger,
		OCI:      source.Read,
		Renderer: Renderer(),
		VerifySigner: func(_ context.Context, p pluginhost.LockedPlugin, wasm []byte) error {
			keys, err := pluginregistry.ReadPublicKeys(paths.PluginKeys) // as they are now
			if err != nil {
				return err
			}
			trusting := *source
			trusting.Keys = keys
			return trusting.VerifySigner(p.Source, p.Signer, wasm)
		},
	}, nil
}

// certify runs the conformance suite on a plugin that a reload is to put in
// charge, with the configuration it will have; once, since it takes seconds, and
// not at all where the lock pins a report.
func (s *pluginSide) certify(ctx context.Context, locked pluginhost.LockedPlugin, wasm []byte) error {
	subject := locked.SHA256 + " " + locked.ConfigSHA256
	s.mu.Lock()
	done := s.certified[subject]
	s.mu.Unlock()
	if done || locked.ConformanceSHA256 != "" {
		return nil
	}
	report, err := conformance.Check(ctx, wasm, conformance.WithConfig(locked.Config), conformance.WithRenderer(Renderer()), conformance.WithHostVersion(version.Cleat))
	if err != nil {
		return err
	}
	var failed []string
	for _, c := range report.Failed(conformance.ProfileCore) {
		failed = append(failed, c.ID)
	}
	if len(failed) > 0 {
		return fmt.Errorf("it fails %s; `cleat plugin verify` tells more", strings.Join(failed, ", "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certified[subject] = true
	return nil
}

// lookups are the kinds that plugins are granted now.
func (s *pluginSide) lookups() []hostabi.Kind {
	if host := s.host.Load(); host != nil {
		return host.Lookups()
	}
	return nil
}

// recentFault is how long after a fault a plugin counts as degraded.
const recentFault = time.Minute

// statuses is what the API is to show of each plugin.
func (s *pluginSide) statuses() map[string]crd.PluginServer {
	all := map[string]crd.PluginServer{}
	host := s.host.Load()
	if host == nil {
		return all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range host.Stats() {
		if p.Shadow {
			main := all[p.Name]
			main.Shadow = &crd.PluginShadow{Version: p.Version, Compared: int64(p.Shadowed), Differed: int64(p.Differed),
				Faults: int64(p.Faults), P50: latency(&p.Latency, 0.5), P99: latency(&p.Latency, 0.99)}
			all[p.Name] = main
			continue
		}
		status := crd.PluginServer{
			Points: strings.Join(pointNames(p.Points), ","), Version: p.Version, Digest: p.SHA256, Generation: int64(p.Generation), Health: crd.PluginHealthy,
			Calls: int64(p.Calls), Denies: int64(p.Denies), Mutations: int64(p.Mutations), Faults: int64(p.Faults),
			P50: latency(&p.Latency, 0.5), P99: latency(&p.Latency, 0.99),
			Memory: resource.NewQuantity(int64(p.Memory), resource.BinarySI).String(),
		}
		if last, ok := s.last[p.Name]; ok && last.version == p.Version {
			status.LastFault = crd.Clip(last.text, crd.MaxLastFault)
			if time.Since(last.at) < recentFault {
				status.Health = crd.PluginDegraded
			}
		}
		if p.Breaker == pluginhost.BreakerOpen {
			status.Health = crd.PluginOff
		}
		all[p.Name] = status
	}
	return all
}

// latency prints a quantile with two digits, "" without calls.
func latency(l *pluginhost.Latency, q float64) string {
	d := l.Quantile(q)
	if d == 0 {
		return ""
	}
	unit := time.Nanosecond
	for unit*100 <= d {
		unit *= 10
	}
	return d.Round(unit).String()
}

// observe turns notices of the host into events and the last fault.
func (s *pluginSide) observe(n pluginhost.Notice) {
	reasons := map[pluginhost.NoticeKind]string{
		pluginhost.NoticeFault: "PluginFault", pluginhost.NoticeOff: "PluginOff", pluginhost.NoticeOn: "PluginWorksAgain",
		pluginhost.NoticeReloaded: "PluginsReloaded", pluginhost.NoticeRolledBack: "PluginRolledBack", pluginhost.NoticeDiffers: "PluginShadowDiffers",
	}
	message := n.Detail
	if n.Advice != "" && !strings.Contains(message, n.Advice) {
		message += "; " + n.Advice
	}
	if n.Capture != "" {
		message += "; replay it with `cleat plugin replay " + n.Capture + "`"
	}
	warning := !slices.Contains([]pluginhost.NoticeKind{pluginhost.NoticeOn, pluginhost.NoticeReloaded}, n.Kind)
	if n.Kind == pluginhost.NoticeFault && n.Plugin != "" {
		s.mu.Lock()
		s.last[n.Plugin] = lastFault{n.Version, n.Detail, time.Now()}
		s.mu.Unlock()
	}
	s.status.Notify(pluginstatus.Notice{Plugin: n.Plugin, Reason: reasons[n.Kind], Warning: warning, Message: message})
}

// reload makes the host follow the lock file as it is now.
func (s *pluginSide) reload(ctx context.Context) (pluginhost.Reloaded, error) {
	host := s.host.Load()
	switch {
	case host == nil:
		return pluginhost.Reloaded{}, errPluginsClosed
	case s.cfg.PluginsLock == "":
		return pluginhost.Reloaded{}, errors.New("the server follows the lock that is part of the binary, which does not change; " +
			"start it with --plugins-lock FILE (`cleat plugin list -o lock` writes one to begin with)")
	}
	text, err := pluginhost.ReadFile(s.cfg.PluginsLock, pluginhost.MaxLockBytes)
	if err != nil {
		return pluginhost.Reloaded{}, fmt.Errorf("plugins.lock: %w", err)
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		return pluginhost.Reloaded{}, err
	}
	// A new plugin is asked from its first moment, and may look things up then.
	release := s.lookup.Prepare(ctx, lock.Lookups())
	defer release()
	return host.Reload(ctx, text)
}

// serve adds what `cleat plugin` asks a running server to its socket.
func (s *pluginSide) serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /plugins", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.statuses()) })
	mux.HandleFunc("POST /plugins/reload", func(w http.ResponseWriter, r *http.Request) {
		result, err := s.reload(r.Context())
		if err != nil {
			s.log.Error("plugins were not reloaded", "error", err)
			writeError(w, err)
			return
		}
		writeJSON(w, result)
	})
}

// Bundle is what the binary carries of plugins, for the plugin commands. Its
// fields are empty in a binary that was built without its payload; those
// commands still work on files.
type Bundle struct {
	Plugins fs.FS  // <name>.wasm
	Lock    []byte // plugins.lock
	Cache   fs.FS  // compiled code
	SDK     func() (io.ReadCloser, error)
}

// EmbeddedBundle returns the bundle of this binary.
func EmbeddedBundle() Bundle {
	var b Bundle
	var err error
	if b.Plugins, err = payload.Plugins(); err != nil {
		return Bundle{}
	}
	if b.Lock, err = payload.Lock(); err != nil {
		return Bundle{}
	}
	if b.Cache, err = payload.PluginCache(); err != nil {
		return Bundle{}
	}
	sdk, err := payload.SDK()
	if err != nil {
		return Bundle{}
	}
	b.SDK = sdk.Open
	return b
}
