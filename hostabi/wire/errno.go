// Package wire is the part of the ABI that runs inside a guest: error numbers,
// value tags, and a decoder and encoder that neither reflect nor allocate
// beyond the caller's buffer. It imports nothing, so that a guest which uses it
// stays small.
package wire

// Errno is a negative result of a host or guest function.
type Errno int32

// The error numbers of ABI v1.
const (
	EINVAL  Errno = -1 // malformed argument
	EACCES  Errno = -2 // not declared in the manifest or not granted by the lock
	ENOENT  Errno = -3 // no such thing
	EBADF   Errno = -4 // the handle is not the one of the running hook
	E2BIG   Errno = -5 // over a limit of the ABI or of the plugin
	EIO     Errno = -6 // the host failed
	ENOTSUP Errno = -7 // not possible here or at this moment
)

// Name returns the symbol, "EINVAL" for example, or "" for an unknown number.
func (e Errno) Name() string {
	switch e {
	case EINVAL:
		return "EINVAL"
	case EACCES:
		return "EACCES"
	case ENOENT:
		return "ENOENT"
	case EBADF:
		return "EBADF"
	case E2BIG:
		return "E2BIG"
	case EIO:
		return "EIO"
	case ENOTSUP:
		return "ENOTSUP"
	}
	return ""
}

// Error says what the number means.
func (e Errno) Error() string {
	switch e {
	case EINVAL:
		return "malformed argument (EINVAL)"
	case EACCES:
		return "not declared in the manifest or not granted by the lock (EACCES)"
	case ENOENT:
		return "no such entry (ENOENT)"
	case EBADF:
		return "dead handle (EBADF)"
	case E2BIG:
		return "over a limit (E2BIG)"
	case EIO:
		return "host failure (EIO)"
	case ENOTSUP:
		return "not supported here (ENOTSUP)"
	}
	return "unknown error number"
}
