package deployer

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// stem is a file's base name up to the first dot: what --disable and the Addon
// are called by.
func stem(rel string) string {
	name, _, _ := strings.Cut(path.Base(rel), ".")
	return name
}

// addonName is the stem where that can name an object and be a label value;
// otherwise it is as much of the stem as can, with a hash to tell it from
// others alike.
func addonName(rel string) string {
	name := stem(rel)
	if len(validation.IsDNS1123Label(name)) == 0 {
		return name
	}
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			b.WriteRune(r)
		} else if b.Len() > 0 {
			b.WriteByte('-')
		}
	}
	const hashLength = 8
	kept := b.String()
	if most := validation.DNS1123LabelMaxLength - hashLength - 1; len(kept) > most {
		kept = kept[:most]
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:])[:hashLength]
	if kept = strings.Trim(kept, "-"); kept == "" {
		return "file-" + hash
	}
	return kept + "-" + hash
}

// isManifestName reports whether a file is surely meant for the deployer, so
// that not being able to use it is worth an event.
func isManifestName(rel string) bool {
	switch path.Ext(rel) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
