package bootstrap

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

const (
	// settingsKey is not below recordPrefix, where a cleat that knows no settings
	// takes another key for another program's.
	settingsKey     = "/settings/cleat"
	settingsVersion = 1
	maxSettings     = 64 << 10
	// leasesPrefix is where each API server that runs keeps a key alive, called
	// by its --advertise-address.
	leasesPrefix = "/registry/masterleases/"
	maxLeases    = 64
	// claimFor is how long another server's change counts although its API
	// server has not said yet that it runs.
	claimFor = time.Minute
)

// settings are the values on which the servers of a cluster agree, as stored.
type settings struct {
	Version int               `json:"version"`
	By      string            `json:"by"` // the node that wrote them
	At      time.Time         `json:"at"`
	Values  map[string]string `json:"values"` // by the name of the option; of a secret one a digest
}

// settingsOf are this server's. A digest of a secret is keyed with what only
// servers know, so that who reads the datastore cannot try guesses.
func (b *Bootstrap) settingsOf(id *pki.Identity) settings {
	s := settings{Version: settingsVersion, By: b.Config.NodeName, At: b.Now().UTC(), Values: map[string]string{}}
	for _, o := range b.table {
		if o.Agree == config.Own {
			continue
		}
		value := strings.Join(o.Values(&b.Config.Options), ",")
		if o.Secret {
			mac := hmac.New(sha256.New, id.Files()[pki.ServiceAccountKey])
			mac.Write([]byte(o.Name + "\x00" + value)) // never fails
			value = hex.EncodeToString(mac.Sum(nil))
		}
		s.Values[o.Name] = value
	}
	return s
}

func parseSettings(text []byte) (settings, error) {
	var s settings
	if len(text) > maxSettings {
		return s, fmt.Errorf("%d bytes, want at most %d", len(text), maxSettings)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("not settings of cleat's: %w", err)
	}
	if s.Version != settingsVersion {
		return s, fmt.Errorf("version %d, this cleat knows %d: start the version that wrote it", s.Version, settingsVersion)
	}
	return s, nil
}

// agreement is what is to be written so that the datastore holds this server's
// settings; the zero value is nothing.
type agreement struct {
	text []byte
	rev  int64 // of what it replaces, 0 if that is nothing
	log  []any
}

// agree compares this server's settings with the cluster's. An error says which
// option differs, and what to do. It only reads.
func (b *Bootstrap) agree(ctx context.Context, store Store, id *pki.Identity) (agreement, error) {
	own := b.settingsOf(id)
	text, rev, err := store.Get(ctx, settingsKey)
	if err != nil {
		return agreement{}, fmt.Errorf("read the cluster's settings: %w", err)
	}
	if rev == 0 {
		return own.agreement(0)
	}
	cluster, err := parseSettings(text)
	if err != nil {
		return agreement{}, fmt.Errorf("the cluster's settings: %w", err)
	}
	var differ []config.Option
	isNew := false
	for _, o := range b.table {
		if o.Agree == config.Own {
			continue
		}
		value, known := cluster.Values[o.Name]
		isNew = isNew || !known
		if known && value != own.Values[o.Name] {
			differ = append(differ, o)
		}
	}
	if len(differ) > 0 {
		if err := b.mayDiffer(ctx, store, cluster, differ); err != nil {
			return agreement{}, err
		}
	} else if !isNew {
		return agreement{}, nil
	}
	// What a newer version stored besides stays.
	all := maps.Clone(cluster.Values)
	maps.Copy(all, own.Values)
	own.Values = all
	change, err := own.agreement(rev)
	for _, o := range differ {
		change.log = append(change.log, o.Name, b.show(o, own.Values[o.Name])+", it was "+b.show(o, cluster.Values[o.Name]))
	}
	return change, err
}

func (s settings) agreement(rev int64) (agreement, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return agreement{}, fmt.Errorf("the cluster's settings: %w", err)
	}
	return agreement{text: text, rev: rev}, nil
}

// mayDiffer says why this server must not have other settings than the cluster: a
// fixed one differs, or other servers run. With nobody else it decides.
func (b *Bootstrap) mayDiffer(ctx context.Context, store Store, cluster settings, differ []config.Option) error {
	others, err := b.others(ctx, store, cluster)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range differ {
		theirs, problem := b.show(o, cluster.Values[o.Name]), ""
		switch {
		case o.Agree == config.Fixed:
			problem = fmt.Sprintf("the cluster was made with %s, which cannot be changed: give that value", theirs)
		case len(others) > 0:
			problem = fmt.Sprintf("the cluster's servers (%s) run with %s, and all need the same: give that value; or stop all servers, and start them with the new one",
				strings.Join(others, ", "), theirs)
		default:
			continue
		}
		value := strings.Join(o.Values(&b.Config.Options), ",")
		if o.Secret {
			value = ""
		}
		errs = append(errs, &config.OptionError{Name: o.Name, Value: value, Origin: b.Config.Origin(o.Name), Problem: problem})
	}
	return errors.Join(errs...)
}

// others are the other servers that run, or are about to.
func (b *Bootstrap) others(ctx context.Context, store Store, cluster settings) ([]string, error) {
	keys, err := store.List(ctx, leasesPrefix, maxLeases)
	if err != nil {
		return nil, fmt.Errorf("look for other servers: %w", err)
	}
	var others []string
	for _, key := range keys {
		if address := strings.TrimPrefix(key, leasesPrefix); address != b.Config.AdvertiseAddress {
			others = append(others, address)
		}
	}
	slices.Sort(others)
	if age := b.Now().Sub(cluster.At).Abs(); len(others) == 0 && cluster.By != b.Config.NodeName && age < claimFor {
		others = append(others, cluster.By)
	}
	return others, nil
}

func (b *Bootstrap) show(o config.Option, value string) string {
	switch {
	case o.Secret:
		return "another value"
	case value == "":
		return "none"
	}
	return fmt.Sprintf("%q", value)
}

// settleSettings writes what agree found.
func (b *Bootstrap) settleSettings(ctx context.Context, store Store, id *pki.Identity) error {
	change, err := b.agree(ctx, store, id)
	if err != nil || change.text == nil {
		return err
	}
	var done bool
	if change.rev == 0 {
		done, err = store.Create(ctx, settingsKey, change.text)
	} else {
		done, err = store.Update(ctx, settingsKey, change.text, change.rev)
	}
	if err != nil {
		return fmt.Errorf("store the cluster's settings: %w", err)
	}
	if !done {
		// Another server was faster: its settings count.
		again, err := b.agree(ctx, store, id)
		if err == nil && again.text != nil {
			err = errors.New("the cluster's settings changed twice at one moment: start again")
		}
		return err
	}
	if len(change.log) > 0 {
		b.Log.Warn("settings of the cluster are changed by this server; every other must start with the same", change.log...)
	}
	return nil
}
