module github.com/cleat-dev/cleat/conformance/golden/go/golden-admission

go 1.26.8

require github.com/cleat-dev/cleat/pluginsdk v0.0.0

require github.com/cleat-dev/cleat/hostabi v0.0.0 // indirect

replace (
	github.com/cleat-dev/cleat/hostabi => ../../../../hostabi
	github.com/cleat-dev/cleat/pluginsdk => ../../../../pluginsdk
)
