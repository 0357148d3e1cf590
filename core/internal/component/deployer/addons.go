package deployer

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

const addonPage = 100 // Addons per list request

func (c *cluster) addons() dynamic.ResourceInterface {
	return c.dynamic.Resource(crd.AddonGVR()).Namespace(crd.AddonNamespace)
}

// listAddons returns every Addon of the cluster by name.
func (c *cluster) listAddons(ctx context.Context) (map[string]*crd.Addon, error) {
	out := map[string]*crd.Addon{}
	options := metav1.ListOptions{Limit: addonPage}
	for {
		list, err := c.addons().List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list addons: %w", err)
		}
		for i := range list.Items {
			a, err := crd.FromUnstructured(&list.Items[i])
			if err != nil {
				return nil, err
			}
			out[a.Name] = a
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return out, nil
		}
	}
}

// addonSource returns the file that an Addon stands for; ok is false if there
// is no such Addon.
func (c *cluster) addonSource(ctx context.Context, name string) (source string, ok bool, err error) {
	u, err := c.addons().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("get addon %s: %w", name, err)
	}
	a, err := crd.FromUnstructured(u)
	if err != nil {
		return "", false, err
	}
	return a.Spec.Source, true, nil
}

// putSpec creates the Addon or makes its spec as given, and returns it with its
// status as the cluster has it.
func (c *cluster) putSpec(ctx context.Context, name string, spec crd.AddonSpec) (*crd.Addon, error) {
	u, err := (&crd.Addon{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: crd.AddonNamespace}, Spec: spec}).ToUnstructured()
	if err != nil {
		return nil, err
	}
	result, err := c.addons().Apply(ctx, name, u, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return nil, fmt.Errorf("write addon %s: %w", name, err)
	}
	return crd.FromUnstructured(result)
}

// putStatus writes the Addon's status and returns the Addon as it is then.
func (c *cluster) putStatus(ctx context.Context, name string, status crd.AddonStatus) (*crd.Addon, error) {
	full, err := (&crd.Addon{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: crd.AddonNamespace}, Status: status}).ToUnstructured()
	if err != nil {
		return nil, err
	}
	// Without the spec: this manager owns that through the main resource.
	u := &unstructured.Unstructured{Object: map[string]any{"status": full.Object["status"]}}
	if u.Object["status"] == nil {
		u.Object["status"] = map[string]any{}
	}
	u.SetAPIVersion(full.GetAPIVersion())
	u.SetKind(full.GetKind())
	u.SetName(name)
	u.SetNamespace(crd.AddonNamespace)
	result, err := c.addons().ApplyStatus(ctx, name, u, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return nil, fmt.Errorf("write status of addon %s: %w", name, err)
	}
	return crd.FromUnstructured(result)
}

// deleteAddon deletes the Addon unless it has been made anew since it was read.
func (c *cluster) deleteAddon(ctx context.Context, a *crd.Addon) error {
	err := c.addons().Delete(ctx, a.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &a.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete addon %s: %w", a.Name, err)
	}
	return nil
}

// outcome turns the result of an attempt into a status.
func outcome(old crd.AddonStatus, generation int64, checksum, reason string, objects []crd.ObjectRef, failure error, now time.Time) crd.AddonStatus {
	status := crd.AddonStatus{
		ObservedChecksum: old.ObservedChecksum,
		Objects:          objects,
		Conditions:       slices.Clone(old.Conditions),
	}
	condition := metav1.Condition{
		Type: crd.ConditionApplied, Status: metav1.ConditionTrue, Reason: reason, ObservedGeneration: generation,
		Message: fmt.Sprintf("%d objects", len(objects)), LastTransitionTime: metav1.NewTime(now),
	}
	if failure == nil {
		status.ObservedChecksum = checksum
	} else {
		status.LastError = clip(failure.Error(), crd.MaxErrorLength)
		condition.Status, condition.Message = metav1.ConditionFalse, status.LastError
	}
	meta.SetStatusCondition(&status.Conditions, condition)
	return status
}

// clip shortens s to at most limit bytes without cutting a character in two.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	end := limit - len(mark)
	for end > 0 && s[end]&0xc0 == 0x80 {
		end--
	}
	return s[:end] + mark
}
