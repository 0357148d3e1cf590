package conformance

import (
	"context"
	"fmt"
	"slices"

	"github.com/cleat-dev/cleat/hostabi"
)

// Profile says how much a check matters.
type Profile string

// The profiles.
const (
	ProfileCore     Profile = "core"     // what the ABI demands of every plugin
	ProfileExtended Profile = "extended" // what a good plugin does besides
)

// Result is how a check ended.
type Result string

// The results.
const (
	Pass          Result = "pass"
	Fail          Result = "fail"
	NotApplicable Result = "not-applicable" // the plugin has nothing to check, or a check before it failed
)

// CheckInfo describes a check. IDs stay what they are.
type CheckInfo struct {
	ID      string
	Profile Profile
	Point   hostabi.Point // "" = plugins of every point
	Demand  string        // what is demanded, one sentence or two
	Section string        // the heading of ABI.md the demand is from
}

// Checks describes every check, in the order in which they run.
func Checks() []CheckInfo {
	all := checks()
	infos := make([]CheckInfo, len(all))
	for i, c := range all {
		infos[i] = c.CheckInfo
	}
	return infos
}

// check is a CheckInfo that can be run.
type check struct {
	CheckInfo
	needs []string // checks without whose success this one says nothing
	run   func(context.Context, *subject) (finding, error)
}

// finding is what a check found: its result and what the plugin did.
type finding struct {
	result Result
	did    string
}

func passed(format string, args ...any) (finding, error) {
	return finding{Pass, fmt.Sprintf(format, args...)}, nil
}

func failed(format string, args ...any) (finding, error) {
	return finding{Fail, fmt.Sprintf(format, args...)}, nil
}

func inapplicable(format string, args ...any) (finding, error) {
	return finding{NotApplicable, fmt.Sprintf(format, args...)}, nil
}

func checks() []check {
	return slices.Concat(fileChecks(), startChecks(), hookChecks(), admissionChecks(), deployerChecks(), cniChecks(),
		datastoreChecks(), observedChecks())
}

// runChecks runs the checks of the plugin's points in order. One whose needs
// failed is not run, so that one mistake is told once.
//
// each is handed every check with the function that runs it, which it must call
// once.
func runChecks(ctx context.Context, s *subject, all []check, each func(c check, run func() finding)) error {
	missing := map[string]string{} // id of a check that failed or was not run: the one that failed
	for _, c := range all {
		if c.Point != "" && !s.manifest.HasPoint(c.Point) {
			continue
		}
		var err error
		each(c, func() (found finding) {
			found, err = runCheck(ctx, s, c, missing)
			return found
		})
		if err != nil {
			return fmt.Errorf("check %s: %w", c.ID, err)
		}
	}
	return nil
}

func runCheck(ctx context.Context, s *subject, c check, missing map[string]string) (finding, error) {
	for _, need := range c.needs {
		if cause, ok := missing[need]; ok {
			missing[c.ID] = cause
			return finding{NotApplicable, "not run, because " + cause + " failed"}, nil
		}
	}
	found, err := c.run(ctx, s)
	if found.result == Fail {
		missing[c.ID] = c.ID
	}
	found.did = clipTo(found.did, 1000)
	return found, err
}

// core and extended make a check of every point.
func core(id, section, demand string, needs []string, run func(context.Context, *subject) (finding, error)) check {
	return check{CheckInfo{ID: id, Profile: ProfileCore, Demand: demand, Section: section}, needs, run}
}

func extended(id, section, demand string, needs []string, run func(context.Context, *subject) (finding, error)) check {
	c := core(id, section, demand, needs, run)
	c.Profile = ProfileExtended
	return c
}

// at makes the checks those of one point.
func at(point hostabi.Point, all ...check) []check {
	for i := range all {
		all[i].Point = point
	}
	return all
}
