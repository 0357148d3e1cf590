package servicelb

import (
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// slim drops from what is cached all that nobody here reads: a large cluster has
// many Nodes and EndpointSlices, and they are large.
func slim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		o.ManagedFields = slices.DeleteFunc(o.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager != name })
		for i := range o.ManagedFields {
			o.ManagedFields[i].FieldsV1 = nil
		}
		o.Annotations = nil
	case *corev1.Node:
		o.ManagedFields = nil
		o.Status.Images, o.Status.VolumesInUse, o.Status.VolumesAttached = nil, nil, nil
	case *discoveryv1.EndpointSlice:
		o.ManagedFields, o.Annotations, o.Ports = nil, nil, nil
		for i := range o.Endpoints {
			e := &o.Endpoints[i]
			*e = discoveryv1.Endpoint{NodeName: e.NodeName, Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready}}
		}
	}
	return obj, nil
}

// handler wakes follow after a change that matters. before is nil for an object
// that is new, after for one that is gone.
func (t *turn) handler(matters func(before, after any) bool) cache.ResourceEventHandler {
	wake := func(before, after any) {
		if matters(before, after) {
			select {
			case t.changed <- struct{}{}:
			default: // it will look anyway
			}
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { wake(nil, obj) },
		UpdateFunc: wake,
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			wake(obj, nil)
		},
	}
}

func serviceMatters(before, after any) bool {
	return slices.ContainsFunc([]any{before, after}, func(o any) bool {
		s, ok := o.(*corev1.Service)
		return ok && wanted(s)
	})
}

func nodeMatters(before, after any) bool {
	old, _ := before.(*corev1.Node)
	now, _ := after.(*corev1.Node)
	if old == nil || now == nil {
		return true
	}
	oldMember, oldMay := memberOf(old, nil)
	nowMember, nowMay := memberOf(now, nil)
	return oldMay != nowMay || !reflect.DeepEqual(oldMember, nowMember)
}

func (t *turn) sliceMatters(before, after any) bool {
	return slices.ContainsFunc([]any{before, after}, func(o any) bool {
		slice, ok := o.(*discoveryv1.EndpointSlice)
		if !ok {
			return false
		}
		s, err := t.services.Services(slice.Namespace).Get(slice.Labels[discoveryv1.LabelServiceName])
		return err == nil && wanted(s) && isLocal(s)
	})
}
