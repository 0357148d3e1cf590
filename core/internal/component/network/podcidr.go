package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// lookInterval is how often a node that has no pod CIDR looks for why; the first
	// time after half of it, as it usually has one within a second. Each look reads all Nodes.
	lookInterval = 5 * time.Second
	// maxShareBits bounds by how many bits the share of a node is longer than the range it is of.
	maxShareBits = 24
)

// Reasons of the condition NetworkUnavailable of a Node that had to wait.
const (
	reasonUsedUp   = "PodNetworkUsedUp"
	reasonPending  = "PodCIDRPending"
	reasonAssigned = "PodCIDRAssigned"
)

// shortage is the wait of a node for its pod CIDR. Who looks at the Node or at this
// machine learns why it waits. See "A node that finds no room asks again" in RATIONALE.md.
type shortage struct {
	client   kubernetes.Interface                 // may patch the status of this node
	all      func() (kubernetes.Interface, error) // may list all nodes
	ranges   []string                             // of the cluster
	interval time.Duration
	log      *slog.Logger

	timer *time.Timer // nil while the node does not wait
	found error       // by the last look
}

// begin is called while the node waits; it returns what for.
func (s *shortage) begin(name string, err error) error {
	if s.timer == nil {
		s.timer = time.NewTimer(s.interval / 2)
	}
	if s.found != nil {
		err = s.found
	}
	return fmt.Errorf("node %q has no pod CIDR yet: %w", name, err)
}

// due tells when to look.
func (s *shortage) due() <-chan time.Time {
	if s.timer == nil {
		return nil
	}
	return s.timer.C
}

// look finds out why the node has no pod CIDR and says so on the Node. It returns the
// Node as it is then.
func (s *shortage) look(ctx context.Context, node *corev1.Node) *corev1.Node {
	defer s.timer.Reset(s.interval)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	nodes, err := s.nodes(ctx)
	if err != nil {
		s.found = fmt.Errorf("nodes that have one: %w", err)
		return node
	}
	if slices.ContainsFunc(nodes, func(n corev1.Node) bool { return n.Name == node.Name && len(n.Spec.PodCIDRs) > 0 }) {
		return node // the watch is about to tell
	}
	last := conditionOf(node)
	reason, err := why(s.ranges, nodes)
	if reason == reasonUsedUp && (s.found == nil || s.found.Error() != err.Error()) {
		s.log.Warn("this node has no pod CIDR", "node", node.Name, "error", err)
	}
	s.found = err
	switch {
	case reason == reasonUsedUp && (last.Reason != reason || last.Message != err.Error()):
	case reason == reasonPending && last.Status == corev1.ConditionTrue:
		// The change, if only of the time, makes the controller manager look at this node again.
	default:
		return node
	}
	return s.say(ctx, node, corev1.ConditionTrue, reason, err.Error())
}

// end is called when the node has its pod CIDR. It returns what look does.
func (s *shortage) end(ctx context.Context, node *corev1.Node) *corev1.Node {
	if s.timer != nil {
		s.timer.Stop()
		s.timer, s.found = nil, nil
	}
	last := conditionOf(node)
	if last.Status == corev1.ConditionTrue && (last.Reason == reasonUsedUp || last.Reason == reasonPending) {
		node = s.say(ctx, node, corev1.ConditionFalse, reasonAssigned, "the pods of this node are in "+strings.Join(node.Spec.PodCIDRs, " and "))
	}
	return node
}

func (s *shortage) nodes(ctx context.Context) ([]corev1.Node, error) {
	client, err := s.all()
	if err != nil {
		return nil, err
	}
	// Version 0 is what the API server has in its cache.
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// say writes the condition. What fails is said again at the next occasion.
func (s *shortage) say(ctx context.Context, node *corev1.Node, status corev1.ConditionStatus, reason, message string) *corev1.Node {
	now := metav1.Now()
	c := corev1.NodeCondition{
		Type: corev1.NodeNetworkUnavailable, Status: status, Reason: reason, Message: message,
		LastHeartbeatTime: now, LastTransitionTime: now,
	}
	if last := conditionOf(node); last.Status == status {
		c.LastTransitionTime = last.LastTransitionTime
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{c}}})
	var said *corev1.Node
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		said, err = s.client.CoreV1().Nodes().PatchStatus(ctx, node.Name, patch)
	}
	if err != nil {
		if ctx.Err() == nil && !apierrors.IsNotFound(err) {
			s.log.Warn("cannot say on the Node how its wait for a pod CIDR stands", "error", err)
		}
		return node
	}
	return said
}

func conditionOf(node *corev1.Node) corev1.NodeCondition {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeNetworkUnavailable })
	if i < 0 {
		return corev1.NodeCondition{}
	}
	return node.Status.Conditions[i]
}

// why says from what all nodes have why one has no pod CIDR.
func why(ranges []string, nodes []corev1.Node) (reason string, err error) {
	var known []string
	for _, text := range ranges {
		bits, room, taken := sharesOf(text, nodes)
		if room == 0 {
			continue
		}
		of := "--cluster-cidr " + strings.Join(ranges, ",")
		if len(ranges) > 1 {
			of = text + " of " + of
		}
		if taken >= room {
			return reasonUsedUp, fmt.Errorf("the cluster's pod network is used up: %s gives a /%d to each node, which is enough for %d, and all are taken; "+
				"delete the Node of a machine that is gone (kubectl delete node), or make a new cluster with a wider --cluster-cidr", of, bits, room)
		}
		known = append(known, fmt.Sprintf("%s gives a /%d to each node, and %d of %d are taken", of, bits, taken, room))
	}
	return reasonPending, errors.New(strings.Join(append(known, "the controller manager of a server is to give this node its share"), "; "))
}

// sharesOf counts what the nodes have of one range of the cluster: how long the shares
// are, in bits, how many there are and how many are taken. room is 0 if no node has one.
func sharesOf(text string, nodes []corev1.Node) (bits, room, taken int) {
	of, err := netip.ParsePrefix(text)
	if err != nil {
		return 0, 0, 0
	}
	shares := map[netip.Prefix]bool{}
	for _, n := range nodes {
		for _, text := range n.Spec.PodCIDRs {
			p, err := netip.ParsePrefix(text)
			if err == nil && of.Contains(p.Addr()) && p.Bits() >= of.Bits() && p.Bits()-of.Bits() <= maxShareBits {
				shares[p.Masked()] = true
				bits = max(bits, p.Bits())
			}
		}
	}
	if len(shares) == 0 {
		return 0, 0, 0
	}
	for p := range shares {
		taken += 1 << (bits - p.Bits())
	}
	return bits, 1 << (bits - of.Bits()), taken
}
