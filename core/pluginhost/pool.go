package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errPoolClosed is what get returns once the pool was closed.
var errPoolClosed = errors.New("the plugin host is closed")

// errPoolBusy is what get returns when its wait ran out with every instance at work.
var errPoolBusy = errors.New("every instance is busy")

// idleFor is how long an instance beyond the warm minimum may lie unused
// before the next put closes it.
const idleFor = time.Minute

// pooled is what a pool keeps.
type pooled interface {
	// close frees everything the instance holds; it is called exactly once.
	close()
}

// pool is a bounded stack of instances. The last one put is the first one
// taken, so that at low load one warm instance does the work and the others age
// at the bottom. Instances are closed explicitly: a WebAssembly instance that
// is only dropped keeps its memory (which is what sync.Pool would do).
type pool[T pooled] struct {
	open  func(context.Context) (T, error)
	now   func() time.Time
	warm  int // instances kept however long they lie unused
	keep  int // instances kept at all
	slots chan struct{}

	mu     sync.Mutex
	idle   []idleInstance[T] // top is last
	closed bool
}

type idleInstance[T pooled] struct {
	inst  T
	since time.Time
}

// newPool makes a pool of at most size instances at work at once, of which
// keep stay open when unused.
func newPool[T pooled](size, keep, warm int, now func() time.Time, open func(context.Context) (T, error)) *pool[T] {
	return &pool[T]{open: open, now: now, warm: min(warm, keep), keep: keep, slots: make(chan struct{}, size)}
}

// get returns an instance for the caller alone, the top of the stack or a new
// one (miss). It waits for a free slot until ctx is done or wait is over.
func (p *pool[T]) get(ctx context.Context, wait time.Duration) (inst T, miss bool, err error) {
	var none T
	select {
	case p.slots <- struct{}{}:
	default:
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case p.slots <- struct{}{}:
		case <-timer.C:
			return none, false, fmt.Errorf("%w: all %d at work for %s", errPoolBusy, cap(p.slots), wait)
		case <-ctx.Done():
			return none, false, ctx.Err()
		}
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.slots
		return none, false, errPoolClosed
	}
	if n := len(p.idle); n > 0 {
		inst = p.idle[n-1].inst
		p.idle[n-1] = idleInstance[T]{}
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return inst, false, nil
	}
	p.mu.Unlock()
	inst, err = p.start(ctx, wait)
	return inst, true, err
}

// start opens an instance for a caller that holds a slot. When the caller's
// time is over the start goes on, keeps the slot until it ends, and leaves the
// instance to the next caller.
func (p *pool[T]) start(ctx context.Context, wait time.Duration) (inst T, err error) {
	type result struct {
		inst T
		err  error
	}
	started := make(chan result)
	gone := make(chan struct{})
	go func() {
		inst, err := p.open(context.WithoutCancel(ctx))
		select {
		case started <- result{inst, err}:
		case <-gone:
			if err != nil {
				<-p.slots
				return
			}
			p.put(inst, true)
		}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	defer close(gone)
	select {
	case r := <-started:
		if r.err != nil {
			<-p.slots
		}
		return r.inst, r.err
	case <-timer.C:
		return inst, fmt.Errorf("%w: a new one did not start within %s", errPoolBusy, wait)
	case <-ctx.Done():
		return inst, ctx.Err()
	}
}

// put gives an instance back; healthy is false when it must not be used again.
func (p *pool[T]) put(inst T, healthy bool) {
	var old []T
	p.mu.Lock()
	switch {
	case !healthy || p.closed || len(p.idle) >= p.keep:
		old = append(old, inst)
	default:
		now := p.now()
		p.idle = append(p.idle, idleInstance[T]{inst, now})
		for len(p.idle) > p.warm && now.Sub(p.idle[0].since) > idleFor {
			old = append(old, p.idle[0].inst)
			p.idle = append(p.idle[:0], p.idle[1:]...)
		}
	}
	p.mu.Unlock()
	for _, o := range old {
		o.close()
	}
	<-p.slots
}

// fill opens instances until the warm minimum is idle.
func (p *pool[T]) fill(ctx context.Context) error {
	for range p.warm {
		inst, err := p.open(ctx)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.idle = append(p.idle, idleInstance[T]{inst, p.now()})
		p.mu.Unlock()
	}
	return nil
}

// drain closes the idle instances.
func (p *pool[T]) drain() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, i := range idle {
		i.inst.close()
	}
}

// close refuses further gets, closes the idle instances and waits until those
// at work were put back, or ctx is done.
func (p *pool[T]) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drain()
	for n := range cap(p.slots) {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("%d instances still at work: %w", cap(p.slots)-n, ctx.Err())
		}
	}
	for range cap(p.slots) {
		<-p.slots
	}
	return nil
}

// count returns how many instances lie idle and how many are at work.
func (p *pool[T]) count() (idle, busy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), len(p.slots)
}

// sum adds up what of tells about the idle instances.
func (p *pool[T]) sum(of func(T) uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var total uint64
	for _, i := range p.idle {
		total += of(i.inst)
	}
	return total
}
