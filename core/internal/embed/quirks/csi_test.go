package quirks

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/csi"
	volumetest "k8s.io/kubernetes/pkg/volume/testing"
)

// The plugin of a controller manager that begins after the kubelet does not take the
// node's name from the kubelet's.
func TestKeepCSI(t *testing.T) {
	const driver = "volumes.example"
	client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	plugins := func(more ...volume.VolumePlugin) []volume.VolumePlugin {
		return append(csi.ProbeVolumePlugins(), more...)
	}
	volumetest.NewFakeKubeletVolumeHostWithCSINodeName(t, t.TempDir(), client, plugins(CSIWitness()), "n1", nil, nil)
	volumetest.NewFakeAttachDetachVolumeHostWithCSINodeName(t, t.TempDir(), client, plugins(), "", nil, nil)
	if csiNode == *csiOfKubelet.Load() {
		t.Fatal("the controller's plugin left the kubelet's alone, so this shows nothing")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	KeepCSI(ended) // looks once
	if err := csiNode.InstallCSIDriver(driver, "id", 0, nil); err != nil {
		t.Fatal(err)
	}
	node, err := client.StorageV1().CSINodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil || len(node.Spec.Drivers) != 1 || node.Spec.Drivers[0].Name != driver {
		t.Errorf("the node has %+v, %v", node, err)
	}
}
