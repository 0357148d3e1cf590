package pluginhost

import "sync"

// backgroundJobs bounds the jobs that wait; what comes on top is dropped.
const backgroundJobs = 128

// background runs what no request should wait for, one job at a time.
type background struct {
	jobs chan func()
	done sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

func newBackground() *background {
	b := &background{jobs: make(chan func(), backgroundJobs)}
	b.done.Go(func() {
		for job := range b.jobs {
			job()
		}
	})
	return b
}

// try hands over a job; false means that there is no room for it.
func (b *background) try(job func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	select {
	case b.jobs <- job:
		return true
	default:
		return false
	}
}

// close refuses further jobs and waits for those that were taken.
func (b *background) close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.jobs)
	}
	b.mu.Unlock()
	b.done.Wait()
}
