package network

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/hostabi"
)

const maxStateBytes = 64 << 10

// state is what this node's plans have left on the machine, kept across
// restarts so that the next plan can take it away.
type state struct {
	path string

	Conflist    string               `json:"conflist,omitempty"`       // base name of the file
	ConflistSum string               `json:"conflist_sum,omitempty"`   // sha256 of what was written
	Flannel     *hostabi.FlannelPlan `json:"flannel,omitempty"`        // rules of this plan may be set
	Policy      *PolicyFacts         `json:"network_policy,omitempty"` // rules of NetworkPolicies may be set
	Masquerade  string               `json:"masquerade,omitempty"`     // "nftables" or "iptables": our own rules are set
}

// loadState never returns nil; with an error it is an empty state.
func loadState(path string) (*state, error) {
	empty := &state{path: path}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxStateBytes))
	if err != nil {
		return empty, err
	}
	loaded := &state{path: path}
	if err := json.Unmarshal(content, loaded); err != nil {
		return empty, fmt.Errorf("%s: %w", path, err)
	}
	if loaded.Conflist != "" && !matches(fileName, loaded.Conflist) {
		return empty, fmt.Errorf("%s: conflist: %q is no file name", path, loaded.Conflist)
	}
	return loaded, nil
}

func (s *state) save() error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = atomicfile.WriteIfChanged(s.path, append(content, '\n'), 0o600)
	return err
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}
