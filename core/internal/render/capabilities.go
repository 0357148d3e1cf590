package render

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"k8s.io/client-go/kubernetes/scheme"
)

var stableVersion = regexp.MustCompile(`^v[0-9]+$`)

// capabilities is what templates are told of the cluster: its version, and the
// API versions and kinds that every cluster of it serves, which are the stable
// ones. What other charts define is not among them.
func capabilities(kubeVersion string) (*common.Capabilities, error) {
	version, err := common.ParseKubeVersion(kubeVersion)
	if err != nil {
		return nil, fmt.Errorf("the version of Kubernetes is %q: %w", kubeVersion, err)
	}
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = *version
	caps.APIVersions = servedVersions()
	return caps, nil
}

func servedVersions() common.VersionSet {
	served := map[string]bool{
		// Of the aggregator and of cleat, so not of client-go.
		"apiregistration.k8s.io/v1": true, "apiregistration.k8s.io/v1/APIService": true,
		"cleat.dev/v1": true, "cleat.dev/v1/Addon": true,
	}
	for kind := range scheme.Scheme.AllKnownTypes() {
		version := kind.GroupVersion().String()
		if !stableVersion.MatchString(kind.Version) || isHelperKind(kind.Kind) {
			continue
		}
		served[version], served[version+"/"+kind.Kind] = true, true
	}
	var set common.VersionSet
	for v := range served {
		set = append(set, v)
	}
	slices.Sort(set)
	return set
}

// isHelperKind tells the types of requests and lists from kinds of objects.
func isHelperKind(kind string) bool {
	return strings.HasSuffix(kind, "List") || strings.HasSuffix(kind, "Options") || kind == "WatchEvent" || kind == "APIGroup" || kind == "APIVersions"
}
