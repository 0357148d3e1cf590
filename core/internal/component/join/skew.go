package join

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
)

// maxMinorSkew is how many minor versions of Kubernetes a node and its server may be
// apart: one, so that a cluster can be upgraded machine by machine.
const maxMinorSkew = 1

// checkSkew says why a node of one version of Kubernetes cannot be in the cluster
// of a server of another, nil if it can.
func checkSkew(own, server string) error {
	mine, err := version.ParseSemantic(own)
	if err != nil {
		return fmt.Errorf("version %q of this node: %w", own, err)
	}
	theirs, err := version.ParseSemantic(server)
	if err != nil {
		return fmt.Errorf("node config: version %q: %w", server, err)
	}
	apart := int(mine.Minor()) - int(theirs.Minor())
	if mine.Major() == theirs.Major() && max(apart, -apart) <= maxMinorSkew {
		return nil
	}
	older, newer := "this node", "the server"
	if theirs.LessThan(mine) {
		older, newer = newer, older
	}
	return fmt.Errorf("this node has Kubernetes %s and the server %s, want at most %d minor version between them: upgrade %s, or install an older version on %s",
		own, server, maxMinorSkew, older, newer)
}
