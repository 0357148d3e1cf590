package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// conformity are the flags of verify for single files.
type conformity struct {
	report   string // file
	cases    string // file or directory
	config   string // file
	extended bool
	all      bool
}

func (f *conformity) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.report, "report", "", "write the conformance report to this file: JSON if it ends in .json, else YAML")
	flags.StringVar(&f.cases, "cases", "", "file or directory of cases the plugin must answer as they say")
	flags.StringVar(&f.config, "plugin-config", "", "YAML or JSON file with the configuration to check the plugin with (default: its defaults)")
	flags.BoolVar(&f.extended, "extended", false, "fail for checks of the extended profile too")
	flags.BoolVar(&f.all, "all", false, "list every check, not only those that failed")
}

// check refuses flags that do not fit the number of files.
func (f *conformity) check(files int) error {
	switch {
	case files != 1 && f.report != "":
		return fmt.Errorf("--report is for one plugin, and %d are given; verify them one by one", files)
	case files == 0 && *f != (conformity{}):
		return errors.New("--cases, --plugin-config, --extended and --all are for plugins given as files; name one")
	}
	return nil
}

// options are the options of the suite that the flags ask for.
func (f *conformity) options() ([]conformance.Option, error) {
	opts := []conformance.Option{conformance.WithHostVersion(version.Cleat)}
	if f.cases != "" {
		cases, err := conformance.ReadCases(f.cases)
		if err != nil {
			return nil, err
		}
		opts = append(opts, conformance.WithCases(cases...))
	}
	if f.config != "" {
		config, err := readConfig(f.config)
		if err != nil {
			return nil, fmt.Errorf("--plugin-config %s: %w", f.config, err)
		}
		opts = append(opts, conformance.WithConfig(config))
	}
	return opts, nil
}

// readConfig reads a plugin's configuration in the types a lock has.
func readConfig(file string) (map[string]any, error) {
	text, err := pluginhost.ReadFile(file, hostabi.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	if text, err = yaml.YAMLToJSONStrict(text); err != nil {
		return nil, err
	}
	value, err := hostabi.ParseJSON(text)
	if err != nil {
		return nil, err
	}
	config, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("not a map of keys and values")
	}
	return config, nil
}

// conform checks plugins given as files; the error names those that do not
// conform.
func (c *command) conform(ctx context.Context, out *printer, files []string, f *conformity) error {
	var errs []error
	for _, file := range files {
		errs = append(errs, c.conformOne(ctx, out, file, f))
	}
	return errors.Join(append(errs, out.err)...)
}

// conformOne runs the conformance suite on a plugin, prints how it did and
// writes the report.
func (c *command) conformOne(ctx context.Context, out *printer, file string, f *conformity) error {
	wasm, err := c.readPlugin(ctx, file)
	if err != nil {
		return err
	}
	opts, err := f.options()
	if err != nil {
		return err
	}
	if c.Renderer != nil {
		opts = append(opts, conformance.WithRenderer(c.Renderer))
	}
	report, err := conformance.Check(ctx, wasm, opts...)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	f.print(out, file, report)
	if f.report != "" {
		if err := writeReport(f.report, report); err != nil {
			return err
		}
		out.linef("report written to %s", f.report)
	}
	return f.verdict(file, report)
}

func writeReport(file string, report conformance.Report) error {
	text, err := report.YAML()
	if filepath.Ext(file) == ".json" {
		text, err = report.JSON()
	}
	if err != nil {
		return err
	}
	return replaceFile(file, text)
}

// verdict is the error of a plugin that does not conform, with the checks that
// failed.
func (f *conformity) verdict(file string, report conformance.Report) error {
	failed := report.Failed(conformance.ProfileCore)
	if f.extended {
		failed = append(failed, report.Failed(conformance.ProfileExtended)...)
	}
	if len(failed) == 0 {
		return nil
	}
	ids := make([]string, len(failed))
	for i, e := range failed {
		ids[i] = e.ID
	}
	return fmt.Errorf("%s does not conform to the plugin ABI: %s", file, strings.Join(ids, ", "))
}

// print tells how the plugin did: what failed with the demand and what was
// seen, the rest in one line each or not at all.
func (f *conformity) print(out *printer, file string, report conformance.Report) {
	marks := map[conformance.Result]string{conformance.Pass: "pass", conformance.Fail: "FAIL", conformance.NotApplicable: "n/a "}
	for _, e := range report.Checks {
		switch {
		case e.Result == conformance.Fail:
			out.linef("%s %s (%s)", marks[e.Result], e.ID, e.Profile)
			out.linef("     the ABI demands: %s", e.Demand)
			out.linef("     the plugin: %s", e.Did)
		case f.all:
			out.linef("%s %-36s %s", marks[e.Result], e.ID, e.Did)
		}
	}
	for _, p := range []struct {
		name   conformance.Profile
		counts conformance.Counts
	}{{conformance.ProfileCore, report.Core}, {conformance.ProfileExtended, report.Extended}} {
		out.linef("%-8s %d passed, %d failed, %d not applicable", p.name, p.counts.Passed, p.counts.Failed, p.counts.NotApplicable)
	}
	if report.Conforms {
		out.linef("%s: conforms to ABI %s", file, report.Host.ABI)
	}
}
