// Package pluginregistry moves plugins between files, OCI registries and a store
// on disk, and signs and verifies them.
//
// In a registry a plugin is an artifact in the layout of the CNCF for Wasm: an
// OCI image manifest whose config is of the type [MediaTypeConfig] and whose only
// layer is the module. The same module always gives the same manifest, so the
// manifest's digest names the plugin. Signatures are those of cosign with a key;
// a conformance report is a referrer of the manifest.
//
// What a registry sends is bounded, hashed and compared before it is used, and
// what the store holds is hashed again at every read.
package pluginregistry
