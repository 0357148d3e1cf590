package noderole

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestFollow: the server's Node gets the label, also when it was made anew, other
// Nodes and their labels stay as they are.
func TestFollow(t *testing.T) {
	mine := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "mine", Labels: map[string]string{"kept": "yes"}}}
	client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ready, done := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		done <- New("mine", "").follow(ctx, client, func() { ready <- struct{}{} })
	}()
	for range 2 {
		if _, err := client.CoreV1().Nodes().Create(ctx, mine.DeepCopy(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ready:
		case <-ctx.Done():
			t.Fatal("never ready")
		}
		node, err := client.CoreV1().Nodes().Get(ctx, "mine", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if node.Labels[Label] != "true" || node.Labels["kept"] != "yes" {
			t.Errorf("labels are %v", node.Labels)
		}
		if err := client.CoreV1().Nodes().Delete(ctx, "mine", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := client.CoreV1().Nodes().Get(ctx, "other", metav1.GetOptions{})
	if err != nil || len(other.Labels) > 0 {
		t.Errorf("the other node: %v, labels %v", err, other.Labels)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("follow returned %v", err)
	}
}
