// Package admission measures one policy (image tag and registry) as a plugin in
// each language, as a ValidatingAdmissionPolicy and as a validating webhook, side
// by side on one API server. `make bench-plugins` runs it.
package admission
