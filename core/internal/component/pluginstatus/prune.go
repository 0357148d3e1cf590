package pluginstatus

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
)

// A server may have no Node (--disable-agent), so that only its silence tells
// that it is gone; a live one breaks it often enough for clocks that differ.
const (
	refresh    = 15 * time.Minute // at most, between writes of an entry
	maxSilence = time.Hour        // of a server without a Node
	pruneEvery = 10 * time.Minute
)

// entries returns the servers' parts of an object.
func entries(object *unstructured.Unstructured) []map[string]any {
	list, _, _ := unstructured.NestedSlice(object.Object, "status", "servers")
	var all []map[string]any
	for _, e := range list {
		if entry, ok := e.(map[string]any); ok {
			all = append(all, entry)
		}
	}
	return all
}

// hasEntry reports whether the object has an entry of that server.
func hasEntry(object *unstructured.Unstructured, server string) bool {
	for _, e := range entries(object) {
		if e["server"] == server {
			return true
		}
	}
	return false
}

// silent reports whether an entry is as old as that of a server that is gone. An
// entry that does not say when it was written is.
func (w *writer) silent(entry map[string]any) bool {
	text, _ := entry["observed"].(string)
	observed, err := time.Parse(time.RFC3339, text)
	return err != nil || w.now().Sub(observed) > maxSilence
}

// prune takes out the entries of servers that are gone: that have been silent for
// long and have no Node. It returns how many entries it took out of which server.
func (w *writer) prune(ctx context.Context) (map[string]int, error) {
	if w.now().Before(w.nextPrune) {
		return nil, nil
	}
	w.nextPrune = w.now().Add(pruneEvery)
	list, err := w.plugins.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list plugins: %w", err)
	}
	var errs []error
	pruned, live := map[string]int{}, map[string]bool{w.server: true}
	for i := range list.Items {
		object := &list.Items[i]
		for _, entry := range entries(object) {
			server, _ := entry["server"].(string)
			if live[server] || !w.silent(entry) {
				continue
			}
			if pruned[server] == 0 {
				there, err := w.hasNode(ctx, server)
				if err != nil {
					errs = append(errs, fmt.Errorf("look for node %s: %w", server, err))
				}
				if live[server] = there || err != nil; live[server] {
					continue
				}
			}
			if _, err := w.applyAs(ctx, manager+"-"+server, object.GetName(), object, nil); apierrors.IsNotFound(err) {
				continue // somebody else deleted it
			} else if err != nil {
				errs = append(errs, err)
				continue
			}
			pruned[server]++
		}
	}
	return pruned, errors.Join(errs...)
}

// nodeLookup reports whether there is a Node of that name.
func nodeLookup(client kubernetes.Interface) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, name string) (bool, error) {
		if name == "" || len(content.IsPathSegmentName(name)) > 0 {
			return false, nil // what no Node can be called
		}
		_, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	}
}
