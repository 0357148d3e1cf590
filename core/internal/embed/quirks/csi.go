package quirks

import (
	"context"
	"sync/atomic"
	"time"
	_ "unsafe" // for linkname

	"k8s.io/kubernetes/pkg/volume"
	_ "k8s.io/kubernetes/pkg/volume/csi" // has the variable
	"k8s.io/kubernetes/pkg/volume/csi/nodeinfomanager"
)

// csiNode writes which CSI drivers a node has. The controllers that attach, bind and
// expand volumes set it as the kubelet does, for a node without a name: by then drivers
// on this node cannot register. Upstream has no lock for it; all that is ever set is of
// one type, so that no reader sees a half of each.
//
//go:linkname csiNode k8s.io/kubernetes/pkg/volume/csi.nim
var csiNode nodeinfomanager.Interface

// csiOfKubelet is what the kubelet set, nil without a kubelet.
var csiOfKubelet atomic.Pointer[nodeinfomanager.Interface]

// csiWitness is a volume plugin without volumes.
type csiWitness struct {
	volume.VolumePlugin // nil: nobody asks a plugin that supports nothing for more
}

// CSIWitness returns a volume plugin that goes behind the others of the kubelet, and
// remembers what that of CSI has just set.
func CSIWitness() volume.VolumePlugin { return csiWitness{} }

func (csiWitness) GetPluginName() string        { return "cleat.dev/csi-witness" }
func (csiWitness) CanSupport(*volume.Spec) bool { return false }

func (csiWitness) Init(volume.VolumeHost) error {
	own := csiNode
	csiOfKubelet.Store(&own)
	return nil
}

// KeepCSI puts back what the kubelet set whenever it was replaced, until ctx is done.
// It runs beside the controllers, which give no sign when they set theirs; the kubelet
// tries again what failed meanwhile.
func KeepCSI(ctx context.Context) {
	const pause = 500 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if own := csiOfKubelet.Load(); own != nil && csiNode != *own {
			csiNode = *own
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
