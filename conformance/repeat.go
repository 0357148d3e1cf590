package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

func checkDryRun(ctx context.Context, s *subject) (finding, error) {
	dry := func(r *Request) { r.DryRun = !r.DryRun }
	return s.compare(ctx, dry, "gave a dry run another answer")
}

// compare puts the typical questions to new instances, once more with a change,
// and wants the same answers.
func (s *subject) compare(ctx context.Context, change func(*Request), otherwise string) (finding, error) {
	all, err := s.typical()
	if err != nil {
		return finding{}, err
	}
	if s.fresh == nil {
		if s.fresh, err = s.texts(ctx, all); err != nil {
			return finding{}, err
		}
	}
	for i := range all {
		change(&all[i].request)
	}
	second, err := s.texts(ctx, all)
	if err != nil {
		return finding{}, err
	}
	for i := range all {
		if s.fresh[i] != second[i] {
			return failed("%s, asked about %s", otherwise, all[i].name)
		}
	}
	return passed("gave the same answers to %d requests", len(all))
}

// texts returns what new instances answer to each question.
func (s *subject) texts(ctx context.Context, all []inquiry) ([]string, error) {
	texts := make([]string, len(all))
	for i, q := range all {
		_, err := s.with(ctx, start{}, func(g *guest) (finding, error) {
			var err error
			texts[i], err = g.textOf(ctx, q)
			return finding{}, err
		})
		if err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// textOf is what a guest answers to a question, as text.
func (g *guest) textOf(ctx context.Context, q inquiry) (string, error) {
	var all []string
	var failure error
	_, err := g.each(ctx, []inquiry{q}, func(_ inquiry, a answer) string {
		text, err := a.text()
		if err != nil {
			failure = err
		}
		all = append(all, text)
		return ""
	})
	if err == nil {
		err = failure
	}
	return strings.Join(all, "\n"), err
}

func checkDeterministic(ctx context.Context, s *subject) (finding, error) {
	return s.compare(ctx, func(*Request) {}, "answered otherwise on a second new instance")
}

func checkIndependent(ctx context.Context, s *subject) (finding, error) {
	if slices.Contains(s.manifest.Capabilities, hostabi.ModuleKV) {
		return inapplicable("keeps state, which other requests may change")
	}
	all, err := s.typical()
	if err != nil {
		return finding{}, err
	}
	paths, err := s.readPaths()
	if err != nil {
		return finding{}, err
	}
	between := s.inquiries(func(base Request) []inquiry {
		base.Object = object(base, paths, 3, textual(strings.Repeat("z", 3000)))
		base.OldObject = olds(base, paths)
		return []inquiry{{name: "another " + base.Kind, request: base}}
	})
	return s.with(ctx, start{}, func(g *guest) (finding, error) {
		for round := range 5 {
			for i, q := range all {
				text, err := g.textOf(ctx, q)
				if err != nil {
					return finding{}, err
				}
				if text != s.fresh[i] {
					return failed("answered otherwise than a new instance, asked about %s in round %d", q.name, round+1)
				}
			}
			if _, err := g.each(ctx, between, func(inquiry, answer) string { return "" }); err != nil {
				return finding{}, err
			}
		}
		return passed("gave the answers of a new instance to %d requests, again and again", len(all))
	})
}

// The memory check ends well after that many quiet rounds in a row. A garbage
// collector may need thousands of calls to find its pace.
const (
	memoryCalls  = 1000 // in a round
	quietRounds  = 8
	memoryRounds = 50
)

func checkMemoryBounded(ctx context.Context, s *subject) (finding, error) {
	all, err := s.typical()
	if err != nil {
		return finding{}, err
	}
	return s.with(ctx, start{}, func(g *guest) (finding, error) {
		g.unminded = true // there are too many
		quiet, peak := 0, uint64(0)
		for range memoryRounds {
			for n := 0; n < memoryCalls; n += len(all) * len(s.hooks()) {
				if _, err := g.each(ctx, all, func(inquiry, answer) string { return "" }); err != nil {
					return finding{}, err
				}
			}
			now := g.Stats()[0]
			quiet++
			if now.MemoryPeak > peak {
				quiet, peak = 0, now.MemoryPeak
			}
			switch {
			case now.Recycled > 0:
				return failed("came so close to its limit of memory that its instance was replaced")
			case quiet == quietRounds:
				return passed("needed no more memory in the last %d calls than before", quietRounds*memoryCalls)
			}
		}
		return failed("needed ever more memory in %d calls", memoryRounds*memoryCalls)
	})
}

func checkIdempotent(ctx context.Context, s *subject) (finding, error) {
	if !s.manifest.Admission.Mutate {
		return inapplicable("changes nothing")
	}
	all, err := s.typical()
	if err != nil {
		return finding{}, err
	}
	changed := 0
	return s.with(ctx, start{}, func(g *guest) (finding, error) {
		for _, q := range all {
			first, err := g.admit(ctx, hostabi.ExportAdmissionMutate, q.name, q.request.admission())
			if err != nil {
				return finding{}, err
			}
			if first.Object == nil {
				continue
			}
			changed++
			q.request.Object = first.Object
			again, err := g.admit(ctx, hostabi.ExportAdmissionMutate, "its own result for "+q.name, q.request.admission())
			if err != nil {
				return finding{}, err
			}
			if again.Answer != AnswerAllow || again.Object != nil && jsonText(again.Object) != jsonText(first.Object) {
				return failed("%s", again)
			}
		}
		if changed == 0 {
			return inapplicable("changed none of the typical requests")
		}
		return passed("left its own results alone")
	})
}

func checkWarnings(ctx context.Context, s *subject) (finding, error) {
	paths, err := s.readPaths()
	if err != nil {
		return finding{}, err
	}
	return s.with(ctx, start{}, func(g *guest) (finding, error) {
		why, err := g.each(ctx, s.huge(paths), func(_ inquiry, a answer) string {
			if len(a.Warnings) >= hostabi.MaxWarnings {
				return fmt.Sprintf("%s, asked about %s: gave %d warnings, the most there can be", a.hook, a.question, len(a.Warnings))
			}
			return ""
		})
		switch {
		case err != nil:
			return finding{}, err
		case why != "":
			return failed("%s", why)
		}
		return passed("stayed below %d warnings", hostabi.MaxWarnings)
	})
}
