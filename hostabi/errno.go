package hostabi

import "github.com/cleat-dev/cleat/hostabi/wire"

// Errno is a negative result of a host or guest function; it is an error.
type Errno = wire.Errno

// The error numbers of ABI v1; package wire says what each means.
const (
	EINVAL  = wire.EINVAL
	EACCES  = wire.EACCES
	ENOENT  = wire.ENOENT
	EBADF   = wire.EBADF
	E2BIG   = wire.E2BIG
	EIO     = wire.EIO
	ENOTSUP = wire.ENOTSUP
)

// Errnos returns every error number, in descending order.
func Errnos() []Errno {
	return []Errno{EINVAL, EACCES, ENOENT, EBADF, E2BIG, EIO, ENOTSUP}
}
