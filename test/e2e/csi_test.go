//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// csiVariable makes this program a CSI driver; its value is the driver's name.
const csiVariable = "CLEAT_TEST_CSI_DRIVER"

// csiDriver gives volumes that live as long as a pod and hold a file with their name.
type csiDriver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	name, socket string
}

// serveCSI registers the driver with the kubelet and serves it.
func serveCSI(name string) error {
	const kubelet = "/var/lib/kubelet"
	d := &csiDriver{name: name, socket: filepath.Join(kubelet, "plugins", name, "csi.sock")}
	if err := os.MkdirAll(filepath.Dir(d.socket), 0o750); err != nil {
		return err
	}
	listener, err := net.Listen("unix", d.socket)
	if err != nil {
		return err
	}
	register, err := net.Listen("unix", filepath.Join(kubelet, "plugins_registry", name+"-reg.sock"))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, d)
	csi.RegisterNodeServer(server, d)
	registration.RegisterRegistrationServer(server, d)
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	go func() { ended <- server.Serve(register) }()
	return <-ended
}

func (d *csiDriver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: d.name, Endpoint: d.socket, SupportedVersions: []string{"1.0.0"}}, nil
}

func (d *csiDriver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	fmt.Fprintln(os.Stderr, "registered:", s.PluginRegistered, s.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *csiDriver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "1"}, nil
}

func (d *csiDriver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.name + "-here"}, nil
}

func (d *csiDriver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (d *csiDriver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := os.MkdirAll(r.GetTargetPath(), 0o755); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := os.WriteFile(filepath.Join(r.GetTargetPath(), "name"), []byte(r.GetVolumeContext()["name"]), 0o644); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *csiDriver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := os.RemoveAll(r.GetTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// testCSI has a driver come to a node whose process has a controller manager too, which
// has CSI's code as well.
func testCSI(t *testing.T, c *cluster) {
	const name = "volumes.cleat.example"
	ns := c.namespace(t, "csi")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.CopyFile(t, self, "/var/lib/cleat/e2e-csi-driver", 0o755)
	driver := c.Start(t, "csi-driver", "env", csiVariable+"="+name, "/var/lib/cleat/e2e-csi-driver")
	c.apply(t, ns, `
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: `+name+`}
spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Ephemeral]}
`)
	t.Cleanup(func() {
		if out, err := c.Run("kubectl", "delete", "csidriver", name); err != nil {
			t.Error(out, err)
		}
	})
	drivers := []string{"kubectl", "get", "csinode", "n1", "-o", "jsonpath={.spec.drivers[*].nodeID}"}
	lab.Eventually(t, podPatience, "the node has the driver", func() error {
		if out, err := c.Run(drivers...); err != nil || out != name+"-here" {
			return fmt.Errorf("%q, %w; the driver says %s", out, err, driver.Log())
		}
		return nil
	})
	c.apply(t, ns, podOf("reader", "exec sleep 1000000", `    volumeMounts: [{name: own, mountPath: /own}]
  volumes: [{name: own, csi: {driver: `+name+`, volumeAttributes: {name: the first}}}]`))
	c.awaitPod(t, ns, "reader")
	if got := c.kubectl(t, "exec", "-n", ns, "reader", "--", "cat", "/own/name"); got != "the first" {
		t.Errorf("the volume says %q", got)
	}
	c.kubectl(t, "delete", "pod", "-n", ns, "reader")
	driver.Signal(t, "TERM")
	if err := driver.Wait(t, time.Minute); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the driver ended with %v", err)
	}
	c.Must(t, "rm", "/var/lib/kubelet/plugins_registry/"+name+"-reg.sock")
	eventuallyPrints(t, c.Machine, podPatience, "", drivers...)
}
