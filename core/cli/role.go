package cli

import (
	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
)

// role is one of the two commands that run a node.
type role struct {
	of   config.Command
	load func(flags map[string][]string, environ []string) (*config.Config, error)
	hint string // beside an error about its options
}

func serverRole() role {
	return role{config.Server, config.Load, "`cleat server --help` explains each option; those of an agent go with --agent"}
}

func agentRole() role {
	return role{config.Agent, config.LoadAgent, "`cleat agent --help` explains each option"}
}

// loadEither reads the options of what this machine runs, for commands that take
// those of neither role: an agent's if they name a server to join.
func loadEither(flags map[string][]string, environ []string) (*config.Config, error) {
	cfg, err := config.Load(flags, environ)
	if err == nil {
		return cfg, nil
	}
	if agent, err := config.LoadAgent(flags, environ); err == nil && agent.Server != "" {
		agent.WriteKubeconfig = config.DefaultWriteKubeconfig
		return agent, nil
	}
	return nil, err
}

// roleOptions are what a command was given that looks at the options of a node
// and runs none.
type roleOptions struct {
	agent *bool
	flags given
}

// addRoleOptions adds --agent and, outside of the help, the options of either role.
func addRoleOptions(cmd *cobra.Command) roleOptions {
	o := roleOptions{cmd.Flags().Bool("agent", false, "look at an agent instead of a server"), addOptions(cmd, config.Server|config.Agent, false)}
	hideOptions(cmd)
	return o
}

// load reads the options as the role's own command would. What only the machine
// can tell is still missing.
func (o roleOptions) load(environ []string) (role, *config.Config, error) {
	r := serverRole()
	if *o.agent {
		r = agentRole()
	}
	cfg, err := r.load(o.flags, environ)
	if err != nil {
		return r, nil, hinted{err, r.hint}
	}
	return r, cfg, nil
}
