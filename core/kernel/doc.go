// Package kernel starts, watches and stops the units of a node.
//
// A unit is a named Component with the units it needs. Needs are handles
// returned by earlier Add calls, so a cycle or an unknown name does not
// compile, and Add order is a valid boot order. The life of a unit:
//
//	           needs ready            ready()
//	waiting ---------------> starting ---------> ready <-----> unhealthy
//	   |                        |                  |     Check     |
//	   | stop                   | stop             | stop          | stop
//	   |                        +--------+---------+---------------+
//	   |                                 v
//	   |                             stopping
//	   v            Run returned         |
//	stopped <----------------------------+
//
//	failed: Run returned or panicked before its context was cancelled, returned
//	        an error of its own afterwards, or did not return in time
//
// Ready is a latch: it says that the unit came up once, and it is what other
// units wait for. Health is what Check says from then on; it never closes or
// opens the latch, so a sick unit is seen but pulls nobody down with it.
//
// The first failure stops everything. Stop runs in reverse: a unit's context is
// cancelled only after every unit that needs it has returned. Run joins every
// goroutine it started; only a component that ignores its context for longer
// than StopTimeout is left behind, and the error names it.
package kernel
