module github.com/cleat-dev/cleat/hostabi

go 1.26.8
