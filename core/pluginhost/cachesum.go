package pluginhost

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// An entry of the cache is run as it is, and wazero checks no more than its
// machine code: a flipped bit in front of that crashes the process. So a
// checksum lies beside each entry, made when it was written and compared before
// it is read. It is there for failing disks and cut-off writes; against people
// the directory is closed.

const (
	// sumSuffix ends the name of the file with the checksum of an entry.
	sumSuffix = ".sum"
	// sumValid is for how long an unchanged entry that was found intact counts
	// as that. Programs that are used rarely are read from disk again and again.
	sumValid = 10 * time.Minute
	maxSum   = 1 << 10 // bytes
)

// intact is when an entry with that size and time was found to be intact.
type intact struct {
	size    int64
	written time.Time
	checked time.Time
}

// sumText is what stands beside an entry.
func sumText(entry string, size int64, sum uint32) []byte {
	return fmt.Appendf(nil, "{\"entry\":%q,\"size\":%d,\"crc32c\":\"%08x\"}\n", entry, size, sum)
}

func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// sumOf reads an entry and returns what should stand beside it.
func (c *codeCache) sumOf(entry string) (_ []byte, err error) {
	file, err := os.Open(filepath.Join(c.entries, entry))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := newSum()
	size, err := io.CopyBuffer(sum, onlyReader{file}, make([]byte, 1<<20))
	if err != nil {
		return nil, err
	}
	return sumText(entry, size, sum.Sum32()), nil
}

// onlyReader keeps io.CopyBuffer from using other methods than Read, and with
// that other buffers than the one it gets.
type onlyReader struct{ io.Reader }

// names lists the entries.
func (c *codeCache) names() (map[string]bool, error) {
	names := map[string]bool{}
	if c.entries == "" {
		return names, nil
	}
	list, err := os.ReadDir(c.entries)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if isDigest(e.Name()) {
			names[e.Name()] = true
		}
	}
	return names, nil
}

// seal writes the checksum of an entry that was just written.
func (c *codeCache) seal(entry string) error {
	text, err := c.sumOf(entry)
	if err != nil {
		return err
	}
	return c.writeSum(entry, text)
}

func (c *codeCache) writeSum(entry string, text []byte) error {
	tmp, err := os.CreateTemp(c.entries, ".sum-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(c.entries, entry+sumSuffix))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// check removes entries that are not what was written, those whose checksum was
// never written because the process ended before, and checksums of nothing.
func (c *codeCache) check() error {
	if c.entries == "" {
		return nil
	}
	list, err := os.ReadDir(c.entries)
	if err != nil {
		return err
	}
	for _, e := range list {
		entry, isSum := strings.CutSuffix(e.Name(), sumSuffix)
		switch {
		case !isDigest(entry):
			continue
		case isSum:
			if _, err := os.Lstat(filepath.Join(c.entries, entry)); errors.Is(err, fs.ErrNotExist) {
				err = os.Remove(filepath.Join(c.entries, e.Name()))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			continue
		}
		if err := c.checkOne(e); err != nil {
			return err
		}
	}
	return nil
}

func (c *codeCache) checkOne(e fs.DirEntry) error {
	entry := e.Name()
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now := time.Now()
	known, ok := c.intact[entry]
	if ok && known.size == info.Size() && known.written.Equal(info.ModTime()) && now.Sub(known.checked) < sumValid {
		return nil
	}
	// What cannot be read is as good as damaged.
	want, err := ReadFile(filepath.Join(c.entries, entry+sumSuffix), maxSum)
	if err == nil {
		have, err := c.sumOf(entry)
		if err == nil && bytes.Equal(have, want) {
			c.intact[entry] = intact{info.Size(), info.ModTime(), now}
			return nil
		}
	}
	c.log.Warn("compile cache: an entry is damaged and was removed; its plugin is compiled again", "entry", entry)
	delete(c.intact, entry)
	return c.remove(entry)
}

// remove deletes an entry with its checksum.
func (c *codeCache) remove(entry string) error {
	for _, name := range []string{entry, entry + sumSuffix} {
		if err := os.Remove(filepath.Join(c.entries, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// load compiles a program or reads it from the cache; hit tells which. What
// compile may read was checked before, and what it wrote has its checksum after.
func (c *codeCache) load(compile func() (*program, error)) (prog *program, hit bool, err error) {
	if prog, hit, err = c.loadOnce(compile); !unreadable(err) {
		return prog, hit, err
	}
	c.log.Warn("compile cache is damaged and was emptied", "error", err)
	c.mu.Lock()
	err = c.empty()
	c.mu.Unlock()
	if err != nil {
		return nil, false, fmt.Errorf("compile cache: %w", err)
	}
	return c.loadOnce(compile)
}

func (c *codeCache) loadOnce(compile func() (*program, error)) (_ *program, hit bool, err error) {
	c.mu.Lock()
	err = c.check()
	c.mu.Unlock()
	if err != nil {
		return nil, false, fmt.Errorf("compile cache: %w", err)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	before, err := c.names()
	if err != nil {
		return nil, false, fmt.Errorf("compile cache: %w", err)
	}
	prog, err := compile()
	if err != nil {
		return nil, false, err
	}
	after, err := c.names()
	hit = c.entries != ""
	for entry := range after {
		if err == nil && !before[entry] {
			err = c.seal(entry)
			hit = false
		}
	}
	if err != nil {
		prog.release()
		return nil, false, fmt.Errorf("compile cache: %w", err)
	}
	return prog, hit, nil
}
