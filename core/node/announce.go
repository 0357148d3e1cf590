package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
)

// announce says, once, that the server or agent is ready: every unit was and, where
// there is a node, the API calls it Ready. stop waits for the announcer to end.
func announce(ctx context.Context, k *kernel.Kernel, cfg *config.Config, started time.Time, logger *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if k.WaitReady(ctx) != nil {
			return // the kernel says why
		}
		if !cfg.DisableAgent && kernel.Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error { return nodeReady(ctx, cfg) }) != nil {
			return
		}
		next := "cleat kubectl get nodes"
		if cfg.IsAgent() {
			next = "cleat status" // kubectl has no administrator's identity here
		}
		logger.Info(fmt.Sprintf("ready in %.1f s", time.Since(started).Seconds()), "next", next)
	}()
	return func() {
		cancel()
		<-done
	}
}

// nodeReady asks with the node's own identity, which may read itself.
func nodeReady(ctx context.Context, cfg *config.Config) error {
	client, err := clientFor(paths.Data(cfg.DataDir).Kubeconfig("kubelet"))
	if err != nil {
		return err
	}
	node, err := client.CoreV1().Nodes().Get(ctx, cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready", cfg.NodeName)
}
