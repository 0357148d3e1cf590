package deployer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// claim is what one Addon holds or asks for: the planner's view of a file.
type claim struct {
	addon   string
	source  string             // the file, for messages
	holds   map[objectKey]bool // its inventory
	desires map[objectKey]bool // what its file declares
	frozen  bool               // desires is not known (unreadable, skipped, another server's): it keeps what it holds
	gone    bool               // its file is gone or disabled: it gives up what it holds
}

// assignObjects gives each object to one addon. One that holds an object keeps
// it for as long as its file declares it; among the others the first by source
// name gets it. So a declaration can move from file to file in one pass without
// the object being deleted, and two files never take turns overwriting one.
func assignObjects(claims []claim) map[objectKey]string {
	owner := map[objectKey]string{}
	ordered := slices.SortedFunc(slices.Values(claims), func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.addon, b.addon))
	})
	take := func(key objectKey, addon string) {
		if _, taken := owner[key]; !taken {
			owner[key] = addon
		}
	}
	for _, c := range ordered {
		for key := range c.holds {
			if !c.gone && (c.frozen || c.desires[key]) {
				take(key, c.addon)
			}
		}
	}
	for _, c := range ordered {
		if c.gone || c.frozen {
			continue
		}
		for key := range c.desires {
			take(key, c.addon)
		}
	}
	return owner
}

// assignAddons gives each addon name to one file: the one that the Addon
// already records, else the first by name. refused maps the other files to the
// error to report.
func assignAddons(files []*manifestFile, recorded func(addon string) (source string)) (owner map[string]*manifestFile, refused map[string]error) {
	owner, refused = map[string]*manifestFile{}, map[string]error{}
	for _, f := range files {
		name := addonName(f.rel)
		if o := owner[name]; o == nil || (o.path != recorded(name) && f.path == recorded(name)) {
			owner[name] = f
		}
	}
	for _, f := range files {
		if o := owner[addonName(f.rel)]; o != f {
			refused[f.rel] = fmt.Errorf("%s and %s would both be addon %q (the name up to the first dot): rename one",
				o.path, f.path, addonName(f.rel))
		}
	}
	return owner, refused
}

// pruneList returns what is in the inventory and to be deleted: not applied
// now, not given to another addon, and not protected; in the order of deletion.
func pruneList(inventory, applied []crd.ObjectRef, addon string, owner map[objectKey]string) []crd.ObjectRef {
	keep := make(map[objectKey]bool, len(applied))
	for _, r := range applied {
		keep[keyOf(r)] = true
	}
	var out []crd.ObjectRef
	for _, r := range inventory {
		key := keyOf(r)
		if keep[key] || isProtected(r) {
			continue
		}
		if o, owned := owner[key]; owned && o != addon {
			continue
		}
		keep[key] = true // a tampered inventory may list it twice
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b crd.ObjectRef) int { return cmp.Compare(rank(a), rank(b)) })
	slices.Reverse(out)
	return out
}

// merge returns the union of two inventories, b's entries before a's of the
// same key but with a's UID where b has none, in a stable order.
func merge(a, b []crd.ObjectRef) []crd.ObjectRef {
	byKey := make(map[objectKey]crd.ObjectRef, len(a)+len(b))
	for _, r := range a {
		byKey[keyOf(r)] = r
	}
	for _, r := range b {
		if r.UID == "" {
			r.UID = byKey[keyOf(r)].UID
		}
		byKey[keyOf(r)] = r
	}
	return slices.SortedFunc(maps.Values(byKey), compareRefs)
}

func compareRefs(a, b crd.ObjectRef) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func keysOf(refs []crd.ObjectRef) map[objectKey]bool {
	keys := make(map[objectKey]bool, len(refs))
	for _, r := range refs {
		keys[keyOf(r)] = true
	}
	return keys
}
