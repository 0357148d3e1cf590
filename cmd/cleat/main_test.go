package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cleat": main})
}

// TestScripts runs the command line scripts against the real program. Package
// core/cli runs the same ones in seconds against programs that do nothing.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// The machine's own config is none of the scripts' business.
			env.Setenv("CLEAT_CONFIG", env.WorkDir+"/config.yaml")
			return nil
		},
	})
}
