// Package conformance runs upstream's conformance specs against a fresh cluster
// in network namespaces, and says how many pass.
//
// The suite comes from the module in suite/, which pins Kubernetes at the version
// that cleat embeds. The images that specs name are made from the same module and
// from Debian packages, as the specs in images/ say: stand-ins, under upstream's
// names. Without a focus a sample is run, which takes a few minutes.
package conformance
