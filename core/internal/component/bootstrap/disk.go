package bootstrap

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

const maxIdentityFile = 256 << 10

// stampFile holds a digest of the last record that was opened, its password and
// the files that came of it. When all three are as they were, the record need
// not be opened: that takes a good part of a second on purpose. It tells nothing
// to a reader who is not allowed to read the keys beside it.
const stampFile = "bootstrap.stamp"

// diskFiles is what the data directory holds of an identity.
type diskFiles struct {
	dir     string
	files   map[string][]byte
	missing []string
	stamp   string
}

func readDisk(data paths.Data) (diskFiles, error) {
	d := diskFiles{dir: data.TLS(""), files: map[string][]byte{}}
	for _, name := range pki.IdentityFiles() {
		info, err := os.Stat(data.TLS(name))
		if errors.Is(err, fs.ErrNotExist) {
			d.missing = append(d.missing, name)
			continue
		}
		if err != nil {
			return d, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxIdentityFile {
			return d, fmt.Errorf("%s: a %v of %d bytes, want a file of at most %d", data.TLS(name), info.Mode().Type(), info.Size(), maxIdentityFile)
		}
		if d.files[name], err = os.ReadFile(data.TLS(name)); err != nil {
			return d, err
		}
	}
	// Without a stamp, or with a damaged one, the record is opened.
	if stamp, err := readSmall(data.TLS(stampFile)); err == nil {
		d.stamp = stamp
	}
	return d, nil
}

// seen reports that the disk holds just what record says.
func (d diskFiles) seen(record []byte, s *secret) bool {
	return len(d.missing) == 0 && token.Equal(d.stamp, stampOf(record, s, d.files))
}

func stampOf(record []byte, s *secret, files map[string][]byte) string {
	h := sha256.New()
	part := func(text []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write(text)
	}
	part(record)
	part([]byte(s.token.Password))
	for _, name := range pki.IdentityFiles() {
		part(files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// identity is the disk's, nil if the disk holds none.
func (d diskFiles) identity() (*pki.Identity, error) {
	if len(d.files) == 0 {
		return nil, nil
	}
	if len(d.missing) > 0 {
		return nil, fmt.Errorf("%s has a part of a cluster's identity and the datastore has none: %s missing: restore them, or remove the others to make a new cluster",
			d.dir, strings.Join(d.missing, ", "))
	}
	id, err := pki.ParseIdentity(d.files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.dir, err)
	}
	return id, nil
}

// sameAs says which files are another identity's than id.
func (d diskFiles) sameAs(id *pki.Identity) error {
	want := id.Files()
	var different []string
	for _, name := range pki.IdentityFiles() {
		if have, ok := d.files[name]; ok && !bytes.Equal(have, want[name]) {
			different = append(different, filepath.Join(d.dir, name))
		}
	}
	if len(different) > 0 {
		return fmt.Errorf("the datastore's cluster and this machine's differ in %s: if the datastore is the right one, move these files away and start again; if the files are, name their datastore with --datastore-endpoint",
			strings.Join(different, ", "))
	}
	return nil
}

// writeDisk makes the disk hold what was settled; what is there already stays
// untouched.
func writeDisk(data paths.Data, id *pki.Identity, full, agent token.Token, stamp string) error {
	if err := os.MkdirAll(data.TLS(""), 0o700); err != nil {
		return err
	}
	files := id.Files()
	for _, name := range pki.IdentityFiles() {
		mode := fs.FileMode(0o600)
		if strings.HasSuffix(name, ".crt") {
			mode = 0o644
		}
		if _, err := atomicfile.WriteIfChanged(data.TLS(name), files[name], mode); err != nil {
			return err
		}
	}
	if err := writeToken(data.Token(), full); err != nil {
		return err
	}
	// The token of a rotation is now where it belongs, or was never used.
	if err := os.Remove(data.NextToken()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := atomicfile.WriteIfChanged(data.TLS(stampFile), []byte(stamp), 0o600); err != nil {
		return err
	}
	if err := atomicfile.Symlink(filepath.Base(data.Token()), data.NodeToken()); err != nil {
		return err
	}
	if agent == (token.Token{}) {
		return atomicfile.Symlink(filepath.Base(data.Token()), data.AgentToken())
	}
	return writeToken(data.AgentToken(), agent)
}
