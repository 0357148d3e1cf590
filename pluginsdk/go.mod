module github.com/cleat-dev/cleat/pluginsdk

go 1.26.8

require github.com/cleat-dev/cleat/hostabi v0.0.0

replace github.com/cleat-dev/cleat/hostabi => ../hostabi
