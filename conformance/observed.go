package conformance

import (
	"context"
	"fmt"

	"github.com/cleat-dev/cleat/hostabi"
)

// observedChecks look at everything the plugin answered before.
func observedChecks() []check {
	all := []check{
		core("core/error-text", "error_set",
			"Before a plan hook returns a negative result, it says why with error_set, or leaves the reason a host function kept.", asked(), checkErrorText),
	}
	all = append(all, at(hostabi.PointAdmission,
		core("admission/deny-explained", "deny",
			"Before a hook returns 1, it calls deny with a message for the user.", asked(), checkDenyExplained))...)
	all = append(all, at(hostabi.PointDeployer,
		core("deployer/objects-complete", "cleat_deployer_render",
			"Each object made of a well-formed file has apiVersion, kind and metadata.name.", asked(), checkObjectsComplete),
		extended("deployer/objects-unique", "cleat_deployer_render",
			"No object is in a result twice, unless a warning says so.", asked(), checkObjectsUnique))...)
	all = append(all, at(hostabi.PointCNI,
		core("cni/plan-valid", "cleat_cni_plan",
			"A plan names a driver of the core, and its parts fit each other.", asked(), checkNetworkPlans))...)
	return append(all, at(hostabi.PointDatastore,
		core("datastore/plan-valid", "cleat_datastore_plan",
			"A plan names a driver of the core and an endpoint, and no number is below 0.", asked(), checkDatastorePlans))...)
}

// observe fails with the first answer that wrong says something about. With no
// answer it is about, the check does not apply.
func (s *subject) observe(about func(answer) bool, wrong func(answer) string, none string) (finding, error) {
	count := 0
	for _, a := range s.answers {
		if !about(a) {
			continue
		}
		count++
		if why := wrong(a); why != "" {
			return failed("%s, asked about %s: %s", a.hook, a.question, why)
		}
	}
	if count == 0 {
		return inapplicable("%s", none)
	}
	return passed("so it was %d times", count)
}

func checkErrorText(_ context.Context, s *subject) (finding, error) {
	return s.observe(
		func(a answer) bool {
			return a.trouble != nil && !a.broke() && a.hook != hostabi.ExportAdmissionMutate && a.hook != hostabi.ExportAdmissionValidate
		},
		func(a answer) string {
			if a.explained() {
				return ""
			}
			return "said nothing and " + a.Detail
		}, "returned no negative result")
}

// noReason is what the host tells a user when deny was not called.
const noReason = "denied without a reason"

func checkDenyExplained(_ context.Context, s *subject) (finding, error) {
	return s.observe(
		func(a answer) bool { return a.Answer == AnswerDeny },
		func(a answer) string {
			switch {
			case a.Message == "" || a.Message == noReason:
				return "denied without a message"
			case a.Code < 400 || a.Code > 599:
				return fmt.Sprintf("denied with status %d", a.Code)
			}
			return ""
		}, "denied none of the requests")
}

func rendered(a answer) bool {
	return a.Answer == AnswerDecided && a.hook == hostabi.ExportDeployerRender && a.question != garbage
}

// head is what names an object.
type head struct{ apiVersion, kind, namespace, name string }

func headOf(object []byte) (h head, ok bool) {
	value, err := hostabi.ParseJSON(object)
	if err != nil {
		return h, false
	}
	m, _ := value.(map[string]any)
	metadata, _ := m["metadata"].(map[string]any)
	h.apiVersion, _ = m["apiVersion"].(string)
	h.kind, _ = m["kind"].(string)
	h.name, _ = metadata["name"].(string)
	h.namespace, _ = metadata["namespace"].(string)
	return h, h.apiVersion != "" && h.kind != "" && h.name != ""
}

func checkObjectsComplete(_ context.Context, s *subject) (finding, error) {
	return s.observe(rendered, func(a answer) string {
		result, _ := a.Plan.(hostabi.DeployResult)
		for i, object := range result.Objects {
			if h, ok := headOf(object); !ok {
				return fmt.Sprintf("objects[%d] has apiVersion %q, kind %q and metadata.name %q", i, h.apiVersion, h.kind, h.name)
			}
		}
		return ""
	}, "decided about none of the inputs")
}

func checkObjectsUnique(_ context.Context, s *subject) (finding, error) {
	return s.observe(rendered, func(a answer) string {
		result, _ := a.Plan.(hostabi.DeployResult)
		seen := map[head]bool{}
		for i, object := range result.Objects {
			h, _ := headOf(object)
			if seen[h] && len(result.Warnings) == 0 {
				return fmt.Sprintf("objects[%d], %s %s, is there already", i, h.kind, h.name)
			}
			seen[h] = true
		}
		return ""
	}, "decided about none of the inputs")
}

func checkNetworkPlans(_ context.Context, s *subject) (finding, error) {
	return s.observe(
		func(a answer) bool { return a.Answer == AnswerDecided && a.hook == hostabi.ExportCNIPlan },
		func(a answer) string {
			plan, _ := a.Plan.(hostabi.CNIPlan)
			return wrongNetwork(plan)
		}, "planned for none of the nodes")
}

func checkDatastorePlans(_ context.Context, s *subject) (finding, error) {
	return s.observe(
		func(a answer) bool { return a.Answer == AnswerDecided && a.hook == hostabi.ExportDatastorePlan },
		func(a answer) string {
			plan, _ := a.Plan.(hostabi.DatastorePlan)
			return wrongDatastore(plan)
		}, "planned for none of the endpoints")
}
