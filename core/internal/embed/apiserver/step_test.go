//go:build bench

package apiserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	webhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/util/compatibility"
	webhookutil "k8s.io/apiserver/pkg/util/webhook"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/featuregate"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	stepRounds = 5
	stepPath   = "../../../../"
)

// step is the part of the admission chain that a policy is.
type step struct {
	name   string
	plugin admission.ValidationInterface
	calls  int // in a round
}

// TestStep prints what docs/reference/benchmarks.md says of the admission step
// alone: one policy in each form, in one process, on the same requests.
func TestStep(t *testing.T) {
	var report strings.Builder
	steps := []step{}
	for _, language := range []string{"c", "rust", "go", "assemblyscript"} {
		steps = append(steps, step{language, hosted(t, golden(t, language)), 20_000})
	}
	steps = append(steps, step{"cel", celPolicy(t), 5000}, step{"webhook", webhookPolicy(t), 500})
	for _, s := range steps {
		if err := s.plugin.Validate(t.Context(), create("pods", imagePod(1, "elsewhere/app:1")), objects()); err == nil {
			t.Fatalf("%s allows what it should refuse", s.name)
		}
	}
	for _, containers := range []int{3, 20} {
		measured := measureSteps(t, steps, create("pods", imagePod(containers, "registry.local/team/app:1.2")))
		fmt.Fprintf(&report, "A pod of %d containers:\n\n| policy | p50 | p99 | to CEL | to webhook |\n|---|---|---|---|---|\n", containers)
		for _, s := range steps {
			fmt.Fprintf(&report, "| %s | %s | %s | %s | %s |\n", s.name, micro(measured[s.name].p50), micro(measured[s.name].p99),
				ratio(measured[s.name].p50, measured["cel"].p50), ratio(measured[s.name].p50, measured["webhook"].p50))
		}
		report.WriteString("\n")
	}
	var unmatched []step
	for _, policies := range []int{1, 10, 1000} {
		var guests [][]byte
		for n := range policies {
			guests = append(guests, guesttest.Guest{
				Manifest: guesttest.Admission(fmt.Sprintf("policy-%d", n)),
				Hooks:    map[string][]byte{hostabi.ExportAdmissionMutate: guesttest.I32(0), hostabi.ExportAdmissionValidate: guesttest.I32(0)},
			}.Wasm())
		}
		unmatched = append(unmatched, step{fmt.Sprint(policies), hosted(t, guests...), 200_000})
	}
	measured := measureSteps(t, unmatched, create("leases", &corev1.Pod{}))
	report.WriteString("A request that no rule matches:\n\n| policies loaded | mean |\n|---|---|\n")
	for _, s := range unmatched {
		fmt.Fprintf(&report, "| %s | %d ns |\n", s.name, measured[s.name].mean.Nanoseconds())
	}
	t.Logf("\n%s", report.String())
	if err := os.WriteFile(stepPath+"build/bench-step.md", []byte(report.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func micro(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1000) }

func ratio(a, b time.Duration) string { return fmt.Sprintf("%.3f", float64(a)/float64(b)) }

// spent is what calls took: medians over the rounds.
type spent struct{ p50, p99, mean time.Duration }

// measureSteps asks the steps in turns, in rounds.
func measureSteps(t *testing.T, steps []step, a admission.Attributes) map[string]spent {
	t.Helper()
	rounds, interfaces := map[string][]spent{}, objects()
	for range stepRounds {
		for _, s := range steps {
			times := make([]time.Duration, s.calls)
			begin := time.Now()
			for range s.calls {
				if err := s.plugin.Validate(t.Context(), a, interfaces); err != nil {
					t.Fatalf("%s: %v", s.name, err)
				}
			}
			mean := time.Since(begin) / time.Duration(s.calls)
			for i := range times {
				begin := time.Now()
				_ = s.plugin.Validate(t.Context(), a, interfaces) // as above
				times[i] = time.Since(begin)
			}
			slices.Sort(times)
			rounds[s.name] = append(rounds[s.name], spent{times[len(times)/2], times[len(times)*99/100], mean})
		}
	}
	medians := map[string]spent{}
	for name, all := range rounds {
		median := func(of func(spent) time.Duration) time.Duration {
			var values []time.Duration
			for _, s := range all {
				values = append(values, of(s))
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		medians[name] = spent{median(func(s spent) time.Duration { return s.p50 }), median(func(s spent) time.Duration { return s.p99 }),
			median(func(s spent) time.Duration { return s.mean })}
	}
	return medians
}

// create is a request that makes an object of the resource.
func create(resource string, object runtime.Object) admission.Attributes {
	kind := corev1.SchemeGroupVersion.WithKind("Pod")
	return admission.NewAttributesRecord(object, nil, kind, "shop", "web", corev1.SchemeGroupVersion.WithResource(resource), "",
		admission.Create, nil, true, &user.DefaultInfo{Name: "ann", Groups: []string{"dev"}})
}

// imagePod is a pod as the API server has it in memory.
func imagePod(containers int, image string) *core.Pod {
	pod := &core.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: map[string]string{"team": "red"}}}
	for n := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, core.Container{Name: fmt.Sprintf("c%d", n), Image: image,
			Env: []core.EnvVar{{Name: "A", Value: "b"}}, ImagePullPolicy: core.PullIfNotPresent, TerminationMessagePath: "/dev/termination-log"})
	}
	return pod
}

func golden(t *testing.T, language string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(stepPath + "build/golden/" + language + "/golden-admission.wasm")
	if err != nil {
		t.Fatalf("%v; run make golden first", err)
	}
	return wasm
}

func namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop"}}}
}

// started gives the chain's plugins what the API server gives them.
func started(t *testing.T, plugin admission.Interface, present ...runtime.Object) {
	t.Helper()
	client := fake.NewClientset(append(present, namespace())...)
	factory := informers.NewSharedInformerFactory(client, 0)
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	initializer.New(client, dynamicfake.NewSimpleDynamicClient(legacyscheme.Scheme), factory, authorizerfactory.NewAlwaysAllowAuthorizer(),
		featuregate.NewFeatureGate(), compatibility.DefaultBuildEffectiveVersion(), t.Context().Done(), mapper).Initialize(plugin)
	if validator, ok := plugin.(admission.InitializationValidator); ok {
		if err := validator.ValidateInitialization(); err != nil {
			t.Fatal(err)
		}
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
}

// hosted is the plugin host with these plugins, with their deadlines.
func hosted(t *testing.T, guests ...[]byte) admission.ValidationInterface {
	t.Helper()
	lock, bundle := &pluginhost.Lock{Version: pluginhost.LockVersion}, fstest.MapFS{}
	for n, wasm := range guests {
		found, err := pluginhost.Inspect(wasm)
		if err != nil {
			t.Fatal(err)
		}
		file := found.Manifest.Name + ".wasm"
		locked, err := pluginhost.Propose(found, "embedded:"+file, n+1)
		if err != nil {
			t.Fatal(err)
		}
		lock.Plugins = append(lock.Plugins, locked)
		bundle[file] = &fstest.MapFile{Data: wasm}
	}
	text, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	host, err := pluginhost.Open(t.Context(), pluginhost.Options{Lock: text, Embedded: bundle})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	plugin := &pluginAdmission{plugins: host}
	started(t, plugin)
	return plugin
}

// celPolicy is the policy as a ValidatingAdmissionPolicy.
func celPolicy(t *testing.T) admission.ValidationInterface {
	t.Helper()
	plugin, err := validating.NewPlugin(nil)
	if err != nil {
		t.Fatal(err)
	}
	const list = `object.spec.%[1]s.all(c, c.image.startsWith('registry.local/') && ` +
		`c.image.substring(c.image.lastIndexOf('/')).contains(':') && !c.image.endsWith(':latest'))`
	fail, equivalent, all := registrationv1.Fail, registrationv1.Equivalent, registrationv1.AllScopes
	started(t, plugin,
		&registrationv1.ValidatingAdmissionPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "images", ResourceVersion: "1"},
			Spec: registrationv1.ValidatingAdmissionPolicySpec{
				FailurePolicy: &fail,
				MatchConstraints: &registrationv1.MatchResources{
					MatchPolicy: &equivalent, NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
					ResourceRules: []registrationv1.NamedRuleWithOperations{{RuleWithOperations: registrationv1.RuleWithOperations{
						Operations: []registrationv1.OperationType{registrationv1.Create},
						Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}, Scope: &all},
					}}},
				},
				Validations: []registrationv1.Validation{{
					Expression: fmt.Sprintf(list, "containers") + ` && (!has(object.spec.initContainers) || ` + fmt.Sprintf(list, "initContainers") + `)`,
					Message:    "an image is not allowed",
				}},
			},
		},
		&registrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "images", ResourceVersion: "1"},
			Spec:       registrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "images", ValidationActions: []registrationv1.ValidationAction{registrationv1.Deny}},
		})
	if !waits(t, plugin) {
		t.Fatal("the CEL policy never came into force")
	}
	return plugin
}

// waits until the policy refuses a pod.
func waits(t *testing.T, plugin admission.ValidationInterface) bool {
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
		if plugin.Validate(t.Context(), create("pods", imagePod(1, "elsewhere/app:1")), objects()) != nil {
			return true
		}
	}
	return false
}

// webhookPolicy is the policy as a webhook on loopback, in this process.
func webhookPolicy(t *testing.T) admission.ValidationInterface {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(review))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	plugin, err := webhook.NewValidatingAdmissionWebhook(nil)
	if err != nil {
		t.Fatal(err)
	}
	plugin.SetServiceResolver(webhookutil.NewDefaultServiceResolver())
	plugin.SetAuthenticationInfoResolverWrapper(func(webhookutil.AuthenticationInfoResolver) webhookutil.AuthenticationInfoResolver {
		return &webhookutil.AuthenticationInfoResolverDelegator{
			ClientConfigForFunc:        func(string) (*rest.Config, error) { return &rest.Config{}, nil },
			ClientConfigForServiceFunc: func(string, string, int) (*rest.Config, error) { return &rest.Config{}, nil },
		}
	})
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = "/review"
	address, none, fail, exact, timeout := target.String(), registrationv1.SideEffectClassNone, registrationv1.Fail, registrationv1.Exact, int32(10)
	started(t, plugin, &registrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "images"},
		Webhooks: []registrationv1.ValidatingWebhook{{
			Name: "images.bench.cleat.dev", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail, MatchPolicy: &exact, TimeoutSeconds: &timeout,
			ClientConfig: registrationv1.WebhookClientConfig{URL: &address,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
			Rules: []registrationv1.RuleWithOperations{{Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule: registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}},
		}},
	})
	if !waits(t, plugin) {
		t.Fatal("the webhook never came into force")
	}
	return plugin
}

// review answers as a webhook written with encoding/json does.
func review(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "malformed review", http.StatusBadRequest)
		return
	}
	var pod corev1.Pod
	if err := json.Unmarshal(review.Request.Object.Raw, &pod); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	response := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		last := c.Image[strings.LastIndex(c.Image, "/")+1:]
		_, tag, tagged := strings.Cut(last, ":")
		if !strings.HasPrefix(c.Image, "registry.local/") || !tagged || tag == "latest" {
			response.Allowed, response.Result = false, &metav1.Status{Message: c.Image + " is not allowed", Code: http.StatusForbidden}
		}
	}
	review.Request, review.Response = nil, response
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the API server went away
}
