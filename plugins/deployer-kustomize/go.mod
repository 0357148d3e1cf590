module github.com/cleat-dev/cleat/plugins/deployer-kustomize

go 1.26.8

require (
	github.com/cleat-dev/cleat/hostabi v0.0.0
	github.com/cleat-dev/cleat/pluginsdk v0.0.0
)

replace (
	github.com/cleat-dev/cleat/hostabi => ../../hostabi
	github.com/cleat-dev/cleat/pluginsdk => ../../pluginsdk
)
