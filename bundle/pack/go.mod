module github.com/cleat-dev/cleat/bundle/pack

go 1.26.8

require github.com/klauspost/compress v1.20.0
