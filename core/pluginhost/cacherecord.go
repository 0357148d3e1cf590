package pluginhost

import (
	"encoding/json"
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

	"github.com/klauspost/compress/zstd"
)

// An entry of the cache is run as it is, and wazero checks no more than its
// machine code: a flipped bit in front of that crashes the process. So the record
// of an entry has a checksum, made when it was written and compared before it is
// read. It is there for failing disks and cut-off writes; against people the
// directory is closed.

const (
	// recordSuffix ends the name of a record, seedSuffix that of a compressed
	// entry of a seed.
	recordSuffix = ".json"
	seedSuffix   = ".zst"
	// checkValid is for how long an unchanged entry that was found intact counts
	// as that. Programs that are used rarely are read from disk again and again.
	checkValid = 10 * time.Minute
	// keepUnused is for how long an entry stays that nobody uses.
	keepUnused = 90 * 24 * time.Hour

	maxRecord = 1 << 10   // bytes
	maxEntry  = 512 << 20 // bytes
)

// codeRecord says which entry has the code of that name. The file is <code>.json.
type codeRecord struct {
	Code  string `json:"code"`
	Entry string `json:"entry"`
	Size  int64  `json:"size"`
	Sum   string `json:"crc32c"`
}

// intact is when an entry with that size and time was found to be intact.
type intact struct {
	entry   string
	size    int64
	written time.Time
	checked time.Time
}

func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

func (r codeRecord) text() []byte {
	return fmt.Appendf(nil, "{\"code\":%q,\"entry\":%q,\"size\":%d,\"crc32c\":%q}\n", r.Code, r.Entry, r.Size, r.Sum)
}

// parseRecord reads the record of that code.
func parseRecord(code string, text []byte) (codeRecord, error) {
	var r codeRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return r, err
	}
	if r.Code != code || !isDigest(r.Entry) || r.Size < 0 || r.Size > maxEntry {
		return r, errors.New("it describes something else")
	}
	return r, nil
}

// recordOf reads an entry and returns its record.
func recordOf(code, file string) (r codeRecord, err error) {
	from, err := os.Open(file)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	sum := newSum()
	size, err := io.CopyBuffer(sum, onlyReader{from}, make([]byte, 1<<20))
	return codeRecord{Code: code, Entry: filepath.Base(file), Size: size, Sum: fmt.Sprintf("%08x", sum.Sum32())}, err
}

// onlyReader keeps io.CopyBuffer from using other methods than Read, and with
// that other buffers than the one it gets.
type onlyReader struct{ io.Reader }

// seal writes the record of an entry that was just written.
func (c *codeCache) seal(code, entry string) error {
	r, err := recordOf(code, filepath.Join(c.entries, entry))
	if err != nil {
		return err
	}
	if err := c.writeRecord(r); err != nil {
		return err
	}
	return c.note(r)
}

func (c *codeCache) writeRecord(r codeRecord) error {
	tmp, err := os.CreateTemp(c.entries, tempPrefix+"record-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(r.text())
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(c.entries, r.Code+recordSuffix))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// note remembers that an entry is intact as it is now.
func (c *codeCache) note(r codeRecord) error {
	info, err := os.Stat(filepath.Join(c.entries, r.Entry))
	if err != nil {
		return err
	}
	c.intact[r.Code] = intact{r.Entry, info.Size(), info.ModTime(), time.Now()}
	return nil
}

// ready reports whether the code is in the cache, after taking it out of the seed
// where that has it. An entry that is not what was written is removed.
func (c *codeCache) ready(code string) (bool, error) {
	file := filepath.Join(c.entries, code+recordSuffix)
	text, err := ReadFile(file, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return c.plant(code)
	}
	var r codeRecord
	if err == nil {
		r, err = parseRecord(code, text)
	}
	if err == nil {
		err = c.check(r)
	}
	if err != nil {
		c.log.Warn("compile cache: an entry is damaged and was removed; its plugin is compiled again", "entry", r.Entry, "error", err)
		if err := c.remove(code); err != nil {
			return false, fmt.Errorf("compile cache: %w", err)
		}
		return c.plant(code)
	}
	now := time.Now()
	// Says when it was used last; what cannot be written is no reason to stop.
	_ = os.Chtimes(file, now, now)
	return true, nil
}

// check compares an entry with its record.
func (c *codeCache) check(r codeRecord) error {
	file := filepath.Join(c.entries, r.Entry)
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	known, ok := c.intact[r.Code]
	if ok && known.entry == r.Entry && known.size == info.Size() && known.written.Equal(info.ModTime()) && time.Since(known.checked) < checkValid {
		return nil
	}
	delete(c.intact, r.Code)
	have, err := recordOf(r.Code, file)
	if err != nil {
		return err
	}
	if have != r {
		return fmt.Errorf("it has %d bytes with checksum %s, %d with %s were written", have.Size, have.Sum, r.Size, r.Sum)
	}
	return c.note(r)
}

// remove deletes code with its record.
func (c *codeCache) remove(code string) error {
	delete(c.intact, code)
	text, err := ReadFile(filepath.Join(c.entries, code+recordSuffix), maxRecord)
	var r codeRecord
	if err == nil {
		r, err = parseRecord(code, text)
	}
	names := []string{code + recordSuffix}
	if err == nil { // else it is found by tidy
		names = append(names, r.Entry)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(c.entries, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// tidy removes entries without a record, which the process did not finish before
// it ended, records without an entry, and what was not used for long.
func (c *codeCache) tidy() error {
	list, err := os.ReadDir(c.entries)
	if err != nil {
		return err
	}
	recorded := map[string]bool{}
	for _, e := range list {
		code, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || !isDigest(code) {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) > keepUnused {
			continue
		}
		text, err := ReadFile(filepath.Join(c.entries, e.Name()), maxRecord)
		var r codeRecord
		if err == nil {
			r, err = parseRecord(code, text)
		}
		if err != nil {
			c.log.Warn("compile cache: an entry is damaged and was removed; its plugin is compiled again", "record", e.Name(), "error", err)
			continue
		}
		recorded[e.Name()], recorded[r.Entry] = true, true
	}
	for _, e := range list {
		if recorded[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.entries, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// plant takes code out of the seed; false means that it is not there.
func (c *codeCache) plant(code string) (bool, error) {
	if c.seed == nil {
		return false, nil
	}
	text, err := fs.ReadFile(c.seed, code+recordSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var r codeRecord
	if err == nil {
		r, err = parseRecord(code, text)
	}
	if err == nil {
		err = c.plantEntry(r)
	}
	if err != nil {
		return false, fmt.Errorf("embedded compile cache: %s: %w", code, err)
	}
	return true, nil
}

// plantEntry decompresses one entry; a half-written one is never seen.
func (c *codeCache) plantEntry(r codeRecord) (err error) {
	from, err := c.seed.Open(r.Entry + seedSuffix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	plain, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxEntry))
	if err != nil {
		return err
	}
	defer plain.Close()
	tmp, err := os.CreateTemp(c.entries, tempPrefix+"entry-")
	if err != nil {
		return err
	}
	sum := newSum()
	size, err := io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(plain, maxEntry))
	err = errors.Join(err, tmp.Close())
	if got := fmt.Sprintf("%08x", sum.Sum32()); err == nil && (size != r.Size || got != r.Sum) {
		err = fmt.Errorf("%d bytes with checksum %s, %d with %s are wanted", size, got, r.Size, r.Sum)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(c.entries, r.Entry))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	if err := c.writeRecord(r); err != nil {
		return err
	}
	return c.note(r)
}
