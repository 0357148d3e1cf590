package cleanup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// removeRules removes kube-proxy's, the network plan's and the port mappings'
// rules from the packet filter: whole tables of nftables, chains of iptables.
func (j *job) removeRules(ctx context.Context) {
	ids := j.containerIDs()
	j.removeTables(ctx, ids)
	for _, family := range []string{"iptables", "ip6tables"} {
		j.removeChains(ctx, family, ids)
	}
}

// containerIDs are the containers to which a port may be mapped.
func (j *job) containerIDs() []string {
	var ids []string
	for _, c := range j.facts.containers {
		ids = append(ids, c.id)
	}
	for _, a := range j.attachments() {
		ids = append(ids, a.container)
	}
	return ids
}

// hostPorts is the table of CNI's port mappings, which all networks share.
const hostPorts = "cni_hostport"

// policyTable is the one of NetworkPolicies, which has both families.
const policyTable = "cleat-policy"

// nftList is the part of `nft -j list` that we read.
type nftList struct {
	Nftables []struct {
		Table *struct {
			Family, Name string
		}
		Rule *struct {
			Chain, Comment string
			Handle         int
		}
	}
}

func (j *job) nft(ctx context.Context, args ...string) (nftList, error) {
	out, err := j.host.Command(ctx, "", "nft", append([]string{"-j", "list"}, args...)...)
	var l nftList
	if err == nil && strings.TrimSpace(out) != "" {
		err = json.Unmarshal([]byte(out), &l)
	}
	return l, err
}

func (j *job) removeTables(ctx context.Context, ids []string) {
	const kind = "nftables"
	tables, err := j.nft(ctx, "tables")
	if errors.Is(err, errNoProgram) {
		return // then nobody made any
	}
	if err != nil {
		j.fail(kind, err)
		return
	}
	scripts := make(map[string]string)
	var names []string
	for _, item := range tables.Nftables {
		t := item.Table
		if t == nil || t.Family != "ip" && t.Family != "ip6" && t.Name != policyTable {
			continue
		}
		name := t.Family + " " + t.Name
		script := ""
		switch {
		case t.Name == hostPorts:
			if script, err = j.portTable(ctx, t.Family, ids); err != nil {
				j.fail(kind, err)
			}
		case j.isOurTable(t.Family, t.Name):
			script = "delete table " + name + "\n"
		}
		if script != "" {
			scripts[name], names = script, append(names, name)
		}
	}
	j.each(kind, "remove", "removed", names, func(name string) error {
		_, err := j.host.Command(ctx, scripts[name], "nft", "-f", "-")
		return err
	})
}

func (j *job) isOurTable(family, name string) bool {
	switch name {
	case "cleat-masq":
		return true
	case policyTable:
		return family == "inet"
	case "kube-proxy":
		return j.alone()
	case "flannel-ipv4":
		return family == "ip" && j.facts.network.Flannel != nil && len(j.facts.neighbours) == 0
	case "flannel-ipv6":
		return family == "ip6" && j.facts.network.Flannel != nil && len(j.facts.neighbours) == 0
	}
	return false
}

// portTable makes the script that removes our containers' port mappings, and the
// table with them if nobody else has one in it. A mapping's comment is the
// container.
func (j *job) portTable(ctx context.Context, family string, ids []string) (string, error) {
	content, err := j.nft(ctx, "table", family, hostPorts)
	if err != nil {
		return "", err
	}
	var script strings.Builder
	others := false
	for _, item := range content.Nftables {
		switch r := item.Rule; {
		case r == nil || r.Comment == "":
		case slices.Contains(ids, r.Comment):
			fmt.Fprintf(&script, "delete rule %s %s %s handle %d\n", family, hostPorts, r.Chain, r.Handle)
		default:
			others = true
		}
	}
	if !others && (script.Len() > 0 || j.alone()) {
		return fmt.Sprintf("delete table %s %s\n", family, hostPorts), nil
	}
	return script.String(), nil
}

// chainRule is a rule as iptables-save prints it, without "-A ".
type chainRule struct{ chain, text string }

type chainTable struct {
	name   string
	chains []string
	rules  []chainRule
}

func parseSaved(saved string) []chainTable {
	var tables []chainTable
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			tables = append(tables, chainTable{name: name})
			continue
		}
		if len(tables) == 0 {
			continue
		}
		t := &tables[len(tables)-1]
		if chain, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ := strings.Cut(chain, " ")
			t.chains = append(t.chains, name)
		} else if rule, ok := strings.CutPrefix(line, "-A "); ok {
			name, _, _ := strings.Cut(rule, " ")
			t.rules = append(t.rules, chainRule{name, rule})
		}
	}
	return tables
}

// target is the chain that a rule jumps to, "" if none. A comment may hold
// anything, but it comes before.
func (r chainRule) target() string {
	fields := strings.Fields(r.text)
	for i := len(fields) - 2; i > 0; i-- {
		if fields[i] == "-j" || fields[i] == "-g" {
			return fields[i+1]
		}
	}
	return ""
}

func (j *job) removeChains(ctx context.Context, family string, ids []string) {
	saved, err := j.host.Command(ctx, "", family+"-save")
	if errors.Is(err, errNoProgram) {
		return
	}
	if err != nil {
		j.fail(family, err)
		return
	}
	scripts := make(map[string]string)
	var names []string
	for _, t := range parseSaved(saved) {
		if script, n := j.chainScript(t, ids); script != "" {
			name := fmt.Sprintf("%s (%d chains)", t.name, n)
			scripts[name], names = script, append(names, name)
		}
	}
	j.each(family, "clean", "cleaned", names, func(name string) error {
		_, err := j.host.Command(ctx, scripts[name], family+"-restore", "--noflush", "--wait", "5")
		return err
	})
}

// chainScript removes our chains of one table, and the rules elsewhere that lead
// to them, in one transaction. n counts the chains.
func (j *job) chainScript(t chainTable, ids []string) (script string, n int) {
	var ours []string
	for _, c := range t.chains {
		if j.isOurChain(c) {
			ours = append(ours, c)
		}
	}
	ours = append(ours, j.portChains(t, ids)...)
	var b strings.Builder
	for _, r := range t.rules {
		if !slices.Contains(ours, r.chain) && slices.Contains(ours, r.target()) {
			fmt.Fprintf(&b, "-D %s\n", r.text)
		}
	}
	for _, op := range []string{"-F", "-X"} {
		for _, c := range ours {
			fmt.Fprintf(&b, "%s %s\n", op, c)
		}
	}
	if b.Len() == 0 {
		return "", 0
	}
	return fmt.Sprintf("*%s\n%sCOMMIT\n", t.name, b.String()), len(ours)
}

func (j *job) isOurChain(chain string) bool {
	switch {
	case chain == "CLEAT-POSTROUTING", chain == "CLEAT-FORWARD":
		return true
	case chain == "FLANNEL-POSTRTG", chain == "FLANNEL-FWD":
		return j.facts.network.Flannel != nil && len(j.facts.neighbours) == 0
	}
	return strings.HasPrefix(chain, "KUBE-") && j.alone()
}

// portChains are the chains of our containers' port mappings, and those that
// lead there if nobody else has a mapping.
func (j *job) portChains(t chainTable, ids []string) []string {
	const top = "CNI-HOSTPORT-DNAT"
	var ours []string
	others := false
	for _, r := range t.rules {
		if r.chain != top {
			continue
		}
		mine := slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(r.text, `id: \"`+id+`\"`) })
		if target := r.target(); mine && slices.Contains(t.chains, target) {
			ours = append(ours, target)
		} else {
			others = true
		}
	}
	if others || len(ours) == 0 && !j.alone() {
		return ours
	}
	for _, c := range []string{top, "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"} {
		if slices.Contains(t.chains, c) {
			ours = append(ours, c)
		}
	}
	return ours
}
