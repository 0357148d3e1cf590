package deployer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/config"
)

// Variables are what a manifest may write as %{NAME}%. The names and forms are
// k3s's, so that its users' files work; the registry ones are empty because
// images come from the embedded bundle.
func Variables(cfg *config.Config) map[string]string {
	dns := ""
	if len(cfg.ClusterDNS) > 0 {
		dns = cfg.ClusterDNS[0]
	}
	families := "SingleStack"
	if len(cfg.ClusterDNS) > 1 {
		families = "RequireDualStack"
	}
	return map[string]string{
		"CLUSTER_DNS":                 dns,
		"CLUSTER_DNS_LIST":            "[" + strings.Join(cfg.ClusterDNS, ",") + "]",
		"CLUSTER_DNS_IPFAMILYPOLICY":  families,
		"CLUSTER_DOMAIN":              cfg.ClusterDomain,
		"SYSTEM_DEFAULT_REGISTRY":     "",
		"SYSTEM_DEFAULT_REGISTRY_RAW": "",
	}
}

// digestOfVariables changes when a variable does.
func digestOfVariables(variables map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(&b, "%q=%q\n", name, variables[name])
	}
	return digest([]byte(b.String()))
}
