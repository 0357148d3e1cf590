package configcmd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cleat-dev/cleat/core/config"
)

// render writes the config file. Without reveal, a line with a secret is a
// comment without it.
func render(entries []entry, h *host, remarks []string, reveal bool) (string, error) {
	var b strings.Builder
	comment(&b, fmt.Sprintf("For `cleat %s`. `cleat config migrate --from-k3s` made it from the configuration of %s of k3s (%s).", h.role, h.role.Node(), h.roleBy))
	for _, r := range remarks {
		comment(&b, r)
	}
	for _, e := range entries {
		b.WriteByte('\n')
		from := e.found.name + ", from " + e.found.origin
		if len(e.found.weaker) > 0 {
			from += "; k3s uses it instead of " + strings.Join(e.found.weaker, ", ")
		}
		comment(&b, from)
		for _, n := range e.notes {
			comment(&b, n)
		}
		if e.option == nil {
			value := "[redacted]"
			if !e.secret {
				value = strings.Join(e.found.values, " ")
			}
			comment(&b, e.found.name+": "+value)
			continue
		}
		shown := e.option.Shown(e.values)
		if !reveal && !slices.Equal(shown, e.values) {
			comment(&b, "A secret is written only into a file, by --output.")
			comment(&b, e.option.Name+": "+strings.Join(shown, " "))
			continue
		}
		text, err := yamlLine(e)
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.option.Name, err)
		}
		b.WriteString(text)
	}
	if len(h.variables) > 0 {
		b.WriteByte('\n')
		for _, name := range h.variables {
			comment(&b, name+" is set for the service of k3s and was not taken over; set it for that of cleat if it needs it")
		}
	}
	return b.String(), nil
}

func comment(b *strings.Builder, text string) {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		text = strconv.Quote(text)
	}
	b.WriteString("# " + text + "\n")
}

// yamlLine is the key and its value as a config file has them. Numbers, words
// and file modes stay as they were written.
func yamlLine(e entry) (string, error) {
	scalar := func(v string) *yaml.Node {
		n := &yaml.Node{Kind: yaml.ScalarNode, Value: v}
		if e.option.Kind() == config.Text || e.option.Kind() == config.List {
			n.Tag = "!!str"
		}
		if strings.ContainsAny(v, "\r\n") {
			n.Style = yaml.DoubleQuotedStyle
		}
		return n
	}
	value := &yaml.Node{Kind: yaml.SequenceNode}
	for _, v := range e.values {
		value.Content = append(value.Content, scalar(v))
	}
	if e.option.Kind() != config.List {
		value = value.Content[0]
	}
	var text strings.Builder
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar(e.option.Name), value}}), enc.Close())
	return text.String(), err
}
