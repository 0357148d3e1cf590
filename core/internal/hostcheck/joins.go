package hostcheck

import (
	"context"
	"time"
)

// Joins is how an agent would become a node.
type Joins struct {
	Server string // host:port, "" if none is given
	Token  bool   // one is given
}

// joins looks at what an agent needs of its servers.
func (c *checker) joins(ctx context.Context) {
	if c.n.Joins == nil {
		return
	}
	const whom, with = "whose cluster the agent joins", "what the agent joins with"
	if server := c.n.Joins.Server; server == "" {
		c.add("server", Missing, "none is given", whom, "name one with --server https://HOST:6443")
	} else {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		found, err := server+" answers", c.m.Connect(ctx, server)
		if err != nil {
			found = err.Error()
		}
		c.either(err == nil, Warning, "server", found, whom, "start it, or see to the route and the firewalls on the way; an agent that runs tries again until it answers")
	}
	given := c.n.Joins.Token
	c.either(given, Missing, "token", "given: "+yesOrNo(given), with, "copy node-token from a server, and name the file with --token-file")
}
