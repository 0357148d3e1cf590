// Package render turns Helm charts and kustomizations into objects, with the
// libraries of those tools.
//
// Both are programs that others wrote: a Go template cannot be interrupted, may
// recurse until the stack of the process overflows, and can double a value
// until memory is gone; nothing in the process that runs it can prevent that.
// So each rendering has a process of its own, this executable once more, which
// lives as long as the rendering. It takes the files and the request on its
// standard input and answers on its standard output. Before it looks at either
// it gives up opening anything (RLIMIT_NOFILE is zero: neither files nor sockets
// can be made) and most memory (RLIMIT_DATA). The time that the caller's context
// leaves ends it from outside. Whatever happens in it is an error of one chart.
//
// # The same input gives the same objects
//
// Objects are applied again when a server starts, so a chart that renders to a
// new password each time would change it at every restart. Template functions
// that answer differently each time (random strings, keys, certificates, the
// time) are therefore errors that name the function and what to do; what Helm
// leaves to the order of a map (keys, values) is sorted. The function lookup
// finds nothing, as in `helm template`.
package render
