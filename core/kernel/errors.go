package kernel

import (
	"errors"
	"fmt"
	"runtime/debug"
)

var (
	// ErrStoppedByItself is the failure of a unit whose Run returned before it was told to stop.
	ErrStoppedByItself = errors.New("stopped by itself")
	// ErrStuck is the failure of a unit that did not return within StopTimeout.
	ErrStuck = errors.New("did not return after its context was cancelled")

	errGoexit = errors.New("ended its goroutine with runtime.Goexit")
)

// UnitError is the failure of one unit.
type UnitError struct {
	Unit string
	Err  error
}

func (e *UnitError) Error() string { return "unit " + e.Unit + ": " + e.Err.Error() }

func (e *UnitError) Unwrap() error { return e.Err }

// PanicError is the failure of a component that panicked.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // of the panicking goroutine, as runtime/debug.Stack writes it
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// guard calls f and turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// spawn calls f in a goroutine and delivers its error, also when it panics or
// ends the goroutine.
func spawn(f func() error) <-chan error {
	result := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { result <- err }()
		err = guard(f)
	}()
	return result
}
