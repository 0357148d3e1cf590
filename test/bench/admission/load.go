//go:build bench

package admission

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cleat-dev/cleat/test/bench/load"
)

// job is what the load generator is asked for, as JSON in its argument.
type job struct {
	Kubeconfig string
	Namespace  string
	Containers int
	Clients    int
	Requests   int // of all clients together
	Warm       int // before them, not counted
}

// outcome is what it answers, on standard output.
type outcome struct {
	load.Result
	Metrics map[string]step // time in admission plugins between begin and end, by name
}

// step is what an admission plugin of the API server spent.
type step struct {
	Seconds float64
	Count   float64
}

// runLoad sends pods as dry runs: they pass admission and are not stored.
func runLoad(j job) (outcome, error) {
	clients, err := load.Clients(j.Kubeconfig, j.Clients)
	if err != nil {
		return outcome{}, err
	}
	path := "/api/v1/namespaces/" + j.Namespace + "/pods?dryRun=All"
	body := pod(j.Containers)
	send := func(c *load.Client, _ int) error {
		_, err := c.Do(http.MethodPost, path, body, http.StatusCreated)
		return err
	}
	if _, err := load.Run(clients, j.Warm, send); err != nil {
		return outcome{}, err
	}
	before, err := scrape(clients[0])
	if err != nil {
		return outcome{}, err
	}
	result, err := load.Run(clients, j.Requests, send)
	if err != nil {
		return outcome{}, err
	}
	after, err := scrape(clients[0])
	if err != nil {
		return outcome{}, err
	}
	for name, s := range after {
		after[name] = step{s.Seconds - before[name].Seconds, s.Count - before[name].Count}
	}
	return outcome{Result: result, Metrics: after}, nil
}

// pod is a pod of that many containers which every policy allows.
func pod(containers int) []byte {
	var list []string
	for i := range containers {
		list = append(list, fmt.Sprintf(`{"name":"c%d","image":"registry.local/team/app-%d:1.2.%d","env":[{"name":"A","value":"b"}],`+
			`"resources":{"requests":{"cpu":"1m","memory":"1Mi"}}}`, i, i, i))
	}
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"bench-","labels":{"team":"red","golden.cleat.dev/checked":"true"}},`+
		`"spec":{"automountServiceAccountToken":false,"containers":[%s]}}`, strings.Join(list, ","))
}

// scrape reads how long each admission plugin of the API server has taken.
func scrape(client *load.Client) (map[string]step, error) {
	text, err := client.Do(http.MethodGet, "/metrics", nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	all := map[string]step{}
	for line := range strings.Lines(string(text)) {
		for _, metric := range []string{"apiserver_admission_controller_admission_duration_seconds_sum", "apiserver_admission_controller_admission_duration_seconds_count"} {
			rest, ok := strings.CutPrefix(line, metric+"{")
			if !ok || !strings.Contains(rest, `operation="CREATE"`) || !strings.Contains(rest, `type="validate"`) {
				continue
			}
			_, name, _ := strings.Cut(rest, `name="`)
			name, _, _ = strings.Cut(name, `"`)
			var value float64
			if _, err := fmt.Sscan(rest[strings.LastIndex(rest, " ")+1:], &value); err != nil {
				return nil, err
			}
			s := all[name]
			if strings.Contains(metric, "_sum") {
				s.Seconds += value
			} else {
				s.Count += value
			}
			all[name] = s
		}
	}
	return all, nil
}

// serveWebhook is the policy as a validating webhook would be written in Go.
func serveWebhook(address, certFile, keyFile string) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "malformed review", http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if message := checkImages(review.Request.Object.Raw); message != "" {
			review.Response.Allowed = false
			review.Response.Result = &metav1.Status{Message: message, Code: http.StatusForbidden}
		}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review) // the API server went away
	})
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServeTLS(certFile, keyFile)
}

// checkImages is the policy of the golden admission guest.
func checkImages(object []byte) string {
	var pod struct {
		Spec struct {
			InitContainers, Containers []struct{ Image string }
		}
	}
	if err := json.Unmarshal(object, &pod); err != nil {
		return err.Error()
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		last := c.Image[strings.LastIndex(c.Image, "/")+1:]
		_, tag, tagged := strings.Cut(last, ":")
		if !strings.HasPrefix(c.Image, "registry.local/") || !tagged || tag == "latest" {
			return fmt.Sprintf("%q is not allowed", c.Image)
		}
	}
	return ""
}

// asTool runs the binary as one of the programs inside the machine.
func asTool(args []string) error {
	switch args[0] {
	case "load":
		var j job
		if err := json.Unmarshal([]byte(args[1]), &j); err != nil {
			return err
		}
		result, err := runLoad(j)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	case "webhook":
		return serveWebhook(args[1], args[2], args[3])
	}
	return fmt.Errorf("unknown tool %q", args[0])
}
