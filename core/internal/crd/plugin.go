package crd

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Names of the PluginStatus resource. It is cluster-scoped, and an object is
// called like the plugin.
const (
	PluginKind     = "PluginStatus"
	PluginResource = "plugins"
)

// The health of a plugin.
const (
	PluginHealthy  = "Healthy"
	PluginDegraded = "Degraded" // its last calls failed
	PluginOff      = "Off"      // the circuit breaker keeps it out
)

// MaxLastFault is how long PluginServer.LastFault may be, in bytes.
const MaxLastFault = 1024

// PluginGVR addresses PluginStatus objects in the dynamic client.
func PluginGVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: Group, Version: Version, Resource: PluginResource}
}

// PluginServer is a plugin as one server sees it.
type PluginServer struct {
	Server     string        `json:"server"` // node name
	Observed   metav1.Time   `json:"observed,omitzero"`
	Points     string        `json:"points,omitempty"` // joined by commas
	Version    string        `json:"version,omitempty"`
	Digest     string        `json:"digest,omitempty"` // SHA-256 of the wasm, hexadecimal
	Generation int64         `json:"generation"`
	Health     string        `json:"health,omitempty"`
	Calls      int64         `json:"calls"`
	Denies     int64         `json:"denies"`
	Mutations  int64         `json:"mutations"`
	Faults     int64         `json:"faults"`
	P50        string        `json:"p50,omitempty"`
	P99        string        `json:"p99,omitempty"`
	Memory     string        `json:"memory,omitempty"`
	LastFault  string        `json:"lastFault,omitempty"`
	Shadow     *PluginShadow `json:"shadow,omitempty"`
}

// PluginShadow is the version that runs beside a plugin and decides nothing.
type PluginShadow struct {
	Version  string `json:"version"`
	Compared int64  `json:"compared"`
	Differed int64  `json:"differed"`
	Faults   int64  `json:"faults"`
	P50      string `json:"p50,omitempty"`
	P99      string `json:"p99,omitempty"`
}

// Clip shortens s to at most limit bytes without cutting a character in two.
func Clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	end := limit - len(mark)
	for end > 0 && s[end]&0xc0 == 0x80 {
		end--
	}
	return s[:end] + mark
}
