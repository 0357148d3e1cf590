//go:build !wasip1

package abi_test

import (
	"errors"
	"testing"

	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

func TestFill(t *testing.T) {
	const text = "more than four bytes"
	calls := 0
	got, err := abi.Fill(4, func(buf []byte) int32 {
		calls++
		if len(buf) >= len(text) {
			copy(buf, text)
		}
		return int32(len(text))
	})
	if err != nil || string(got) != text || calls != 2 {
		t.Errorf("%q, %v after %d calls", got, err, calls)
	}
	if _, err := abi.Fill(4, func([]byte) int32 { return int32(wire.EBADF) }); !errors.Is(err, wire.EBADF) {
		t.Errorf("got %v", err)
	}
	grows := int32(8)
	if _, err := abi.Fill(4, func([]byte) int32 { grows *= 2; return grows }); !errors.Is(err, wire.EIO) {
		t.Errorf("a host that never has enough room: %v", err)
	}
	if empty, err := abi.Fill(0, func([]byte) int32 { return 0 }); err != nil || len(empty) != 0 {
		t.Errorf("%q, %v", empty, err)
	}
}
