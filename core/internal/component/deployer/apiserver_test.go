package deployer

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// apiServer speaks as much of the Kubernetes API as the deployer uses: discovery,
// server-side apply with field owners, deletion with preconditions, events.
type apiServer struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	kinds   map[string]metav1.APIResource // group/version/plural
	objects map[string]*stored            // request path
	deleted []string                      // request paths, in order
	events  []string                      // addon reason message
	nextUID int
	fail    func(r *http.Request) int // an HTTP status to fail with, 0 = none
}

type stored struct {
	object map[string]any
	owners map[string]string // leaf path -> manager
}

func startAPI(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{t: t, objects: map[string]*stored{}, kinds: map[string]metav1.APIResource{}}
	for path, kind := range map[string]string{
		"/v1/namespaces": "Namespace", "/v1/configmaps": "ConfigMap", "/v1/serviceaccounts": "ServiceAccount",
		"/v1/services": "Service", "/v1/secrets": "Secret", "apps/v1/deployments": "Deployment",
		"rbac.authorization.k8s.io/v1/clusterroles":         "ClusterRole",
		"rbac.authorization.k8s.io/v1/clusterrolebindings":  "ClusterRoleBinding",
		"apiextensions.k8s.io/v1/customresourcedefinitions": "CustomResourceDefinition",
	} {
		namespaced := !slices.Contains([]string{"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}, kind)
		s.kinds[path] = metav1.APIResource{Name: path[strings.LastIndex(path, "/")+1:], Kind: kind, Namespaced: namespaced}
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *apiServer) config() *rest.Config { return &rest.Config{Host: s.url, QPS: -1} }

// set stores an object as another manager's.
func (s *apiServer) set(path, manager string, object map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if manager == "" {
		manager = "kubectl"
	}
	st := s.objects[path]
	if st == nil {
		s.nextUID++
		st = &stored{object: map[string]any{"metadata": map[string]any{"uid": fmt.Sprintf("uid-%d", s.nextUID)}}, owners: map[string]string{}}
		s.objects[path] = st
	}
	for leaf, value := range leaves("", object) {
		st.owners[leaf] = manager
		setLeaf(st.object, leaf, value)
	}
}

// get returns a copy of an object, nil if there is none.
func (s *apiServer) get(path string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.objects[path]; st != nil {
		return (&unstructured.Unstructured{Object: st.object}).DeepCopy()
	}
	return nil
}

func (s *apiServer) drop(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, path)
}

// paths returns the paths of the objects that are no Addons, sorted.
func (s *apiServer) paths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.objects)), func(p string) bool {
		return strings.Contains(p, "/addons")
	})
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if code := s.fail(r); code != 0 {
			s.status(w, code, "Failure", "made to fail")
			return
		}
	}
	if s.discovery(w, r.URL.Path) {
		return
	}
	path, isStatus := strings.CutSuffix(r.URL.Path, "/status")
	st := s.objects[path]
	switch r.Method {
	case http.MethodGet:
		if r.URL.Query().Has("limit") {
			s.list(w, path)
		} else if st == nil {
			s.status(w, http.StatusNotFound, "NotFound", path)
		} else {
			s.reply(w, st.object)
		}
	case http.MethodPatch:
		s.apply(w, r, path, isStatus)
	case http.MethodDelete:
		var options metav1.DeleteOptions
		if err := json.NewDecoder(r.Body).Decode(&options); err != nil {
			s.t.Errorf("delete options: %v", err)
		}
		uid, _, _ := unstructured.NestedString(mapOf(st), "metadata", "uid")
		switch {
		case st == nil:
			s.status(w, http.StatusNotFound, "NotFound", path)
		case options.Preconditions == nil || string(*options.Preconditions.UID) != uid:
			s.status(w, http.StatusConflict, "Conflict", "precondition")
		default:
			delete(s.objects, path)
			s.deleted = append(s.deleted, path)
			s.status(w, http.StatusOK, "", "")
		}
	case http.MethodPost:
		var event corev1.Event
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil || !strings.HasSuffix(path, "/events") {
			s.t.Errorf("POST %s: %v", path, err)
		}
		s.events = append(s.events, event.InvolvedObject.Name+" "+event.Reason+" "+event.Message)
		s.reply(w, event)
	default:
		s.t.Errorf("unexpected %s %s", r.Method, r.URL)
	}
}

func mapOf(st *stored) map[string]any {
	if st == nil {
		return nil
	}
	return st.object
}

func (s *apiServer) apply(w http.ResponseWriter, r *http.Request, path string, isStatus bool) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("read body: %v", err)
	}
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil {
		s.t.Errorf("apply %s: %v", path, err)
	}
	manager := r.URL.Query().Get("fieldManager")
	if isStatus {
		manager += "/status"
		patch = map[string]any{"status": patch["status"]}
	} else {
		delete(patch, "status")
	}
	if metadata, ok := patch["metadata"].(map[string]any); ok {
		delete(metadata, "creationTimestamp")
	}
	st := s.objects[path]
	if st == nil {
		s.nextUID++
		st = &stored{object: map[string]any{"metadata": map[string]any{"uid": fmt.Sprintf("uid-%d", s.nextUID)}}, owners: map[string]string{}}
	}
	wanted := leaves("", patch)
	for leaf, value := range wanted {
		owner := st.owners[leaf]
		if owner != "" && owner != manager && r.URL.Query().Get("force") != "true" && fmt.Sprint(getLeaf(st.object, leaf)) != fmt.Sprint(value) {
			s.status(w, http.StatusConflict, "Conflict", fmt.Sprintf("Apply failed with 1 conflict: conflict with %q: %s", owner, leaf))
			return
		}
	}
	for leaf, owner := range st.owners {
		if _, kept := wanted[leaf]; owner == manager && !kept {
			delete(st.owners, leaf)
			setLeaf(st.object, leaf, nil)
		}
	}
	for leaf, value := range wanted {
		st.owners[leaf] = manager
		setLeaf(st.object, leaf, value)
	}
	if patch["kind"] == "CustomResourceDefinition" {
		setLeaf(st.object, "/status/conditions", []any{map[string]any{"type": "Established", "status": "True"}})
		spec := patch["spec"].(map[string]any)
		names := spec["names"].(map[string]any)
		key := fmt.Sprintf("%v/v1/%v", spec["group"], names["plural"])
		s.kinds[key] = metav1.APIResource{Name: names["plural"].(string), Kind: names["kind"].(string), Namespaced: spec["scope"] == "Namespaced"}
	}
	s.objects[path] = st
	s.reply(w, st.object)
}

func (s *apiServer) list(w http.ResponseWriter, path string) {
	items := []any{}
	for p, st := range s.objects {
		if strings.HasPrefix(p, path+"/") {
			items = append(items, st.object)
		}
	}
	s.reply(w, map[string]any{"apiVersion": "cleat.dev/v1", "kind": "AddonList", "items": items})
}

func (s *apiServer) discovery(w http.ResponseWriter, path string) bool {
	switch path {
	case "/api":
		s.reply(w, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
		return true
	case "/apis":
		groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		seen := map[string]bool{}
		for key := range s.kinds {
			group, _, _ := strings.Cut(key, "/")
			if group != "" && !seen[group] {
				seen[group] = true
				v := metav1.GroupVersionForDiscovery{GroupVersion: group + "/v1", Version: "v1"}
				groups.Groups = append(groups.Groups, metav1.APIGroup{Name: group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
			}
		}
		s.reply(w, groups)
		return true
	}
	version, ok := strings.CutPrefix(path, "/apis/")
	if path == "/api/v1" {
		version, ok = "/v1", true
	}
	if !ok || strings.Count(version, "/") != 1 {
		return false
	}
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: strings.TrimPrefix(version, "/")}
	for key, kind := range s.kinds {
		if strings.HasPrefix(key, version+"/") {
			list.APIResources = append(list.APIResources, kind)
		}
	}
	s.reply(w, list)
	return true
}

func (s *apiServer) reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.t.Errorf("write reply: %v", err)
	}
}

func (s *apiServer) status(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	result := metav1.StatusFailure
	if code == http.StatusOK {
		result = metav1.StatusSuccess
	}
	s.reply(w, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: result,
		Code: int32(code), Reason: metav1.StatusReason(reason), Message: message,
	})
}

// leaves flattens maps; lists count as leaves.
func leaves(prefix string, value any) map[string]any {
	m, ok := value.(map[string]any)
	if !ok {
		return map[string]any{prefix: value}
	}
	out := map[string]any{}
	for k, v := range m {
		maps.Copy(out, leaves(prefix+"/"+strings.ReplaceAll(k, "/", "~"), v))
	}
	return out
}

func steps(leaf string) []string {
	parts := strings.Split(leaf, "/")[1:]
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "~", "/")
	}
	return parts
}

func setLeaf(object map[string]any, leaf string, value any) {
	if value == nil {
		unstructured.RemoveNestedField(object, steps(leaf)...)
		return
	}
	m := object
	parts := steps(leaf)
	for _, p := range parts[:len(parts)-1] {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	m[parts[len(parts)-1]] = value
}

func getLeaf(object map[string]any, leaf string) any {
	v, _, _ := unstructured.NestedFieldNoCopy(object, steps(leaf)...)
	return v
}
