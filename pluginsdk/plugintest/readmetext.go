//go:build !wasip1

package plugintest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// readmeProblems is what a README lacks, apart from its examples.
func readmeProblems(text string, manifest hostabi.Manifest) []string {
	var problems []string
	if title, _, _ := strings.Cut(text, "\n"); title != "# "+manifest.Name {
		problems = append(problems, "the first line is not # "+manifest.Name)
	}
	var headings []string
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			headings = append(headings, strings.TrimSpace(heading))
		}
	}
	if want := []string{"Name", "Description", "Config", "Capabilities", "Examples"}; !slices.Equal(headings, want) {
		problems = append(problems, fmt.Sprintf("the headings are %s, want %s", strings.Join(headings, ", "), strings.Join(want, ", ")))
	}
	words := slices.Clone(manifest.Capabilities)
	for key := range manifest.ConfigSchema {
		words = append(words, key)
	}
	slices.Sort(words)
	for _, word := range words {
		if !strings.Contains(text, "`"+word+"`") {
			problems = append(problems, "`"+word+"` of the manifest is not explained")
		}
	}
	return problems
}

// block is a fenced block.
type block struct {
	line int // of the opening fence
	info string
	text string
}

// readExamples returns the examples below the heading Examples.
func readExamples(text string) ([]example, error) {
	blocks, err := readBlocks(text)
	if err != nil {
		return nil, err
	}
	var examples []example
	var config block
	var waiting *example // for its answer
	for _, b := range blocks {
		switch b.info {
		case "toml", "json request":
			if waiting != nil && waiting.request != nil {
				return nil, fmt.Errorf("line %d: the request has no answer", waiting.line)
			}
			waiting = &example{line: b.line}
			if b.info == "toml" {
				config = b
			} else {
				waiting.request = &b.text
			}
			waiting.config = config.text
		case "json verdict", "json plan", "text error":
			_, kind, _ := strings.Cut(b.info, " ")
			if waiting == nil || waiting.request == nil && kind != "error" {
				return nil, fmt.Errorf("line %d: %s without a request before it", b.line, kind)
			}
			waiting.kind, waiting.answer = kind, b.text
			examples = append(examples, *waiting)
			waiting = nil
		}
	}
	if waiting != nil && waiting.request != nil {
		return nil, fmt.Errorf("line %d: the request has no answer", waiting.line)
	}
	return examples, nil
}

// readBlocks returns the fenced blocks below the heading Examples.
func readBlocks(text string) ([]block, error) {
	const fence = "```"
	var blocks []block
	var open *block
	below, line := false, 0
	for l := range strings.Lines(text) {
		line++
		l = strings.TrimRight(l, "\r\n")
		switch {
		case open == nil && strings.HasPrefix(l, fence):
			open = &block{line: line, info: strings.Join(strings.Fields(l[len(fence):]), " ")}
		case open != nil && strings.TrimSpace(l) == fence:
			if below {
				blocks = append(blocks, *open)
			}
			open = nil
		case open != nil:
			open.text += l + "\n"
		case strings.HasPrefix(l, "## "):
			below = strings.TrimSpace(l[len("## "):]) == "Examples"
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block has no end", open.line)
	}
	return blocks, nil
}
