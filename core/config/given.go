package config

import "slices"

// Given is what config files say about one key.
type Given struct {
	Key    string // as it is written, without "+"
	Values []string
	Origin string // <file>:<line>, several with ", " between where files appended
}

// ReadGiven reads a config file and the files of the directory beside it, all
// of which may be missing, as Load does, and joins what they say: later values
// replace earlier ones unless they are appended. Keys need not be options. They
// come in the order in which they appear first.
func ReadGiven(configFile string) ([]Given, error) {
	files, err := readFiles(configFile, false)
	if err != nil {
		return nil, err
	}
	var all []Given
	for _, f := range files {
		for _, e := range f.entries {
			g := Given{Key: e.key, Values: e.values, Origin: f.at(e)}
			i := slices.IndexFunc(all, func(have Given) bool { return have.Key == e.key })
			switch {
			case i < 0:
				all = append(all, g)
			case e.append:
				all[i].Values = slices.Concat(all[i].Values, e.values)
				all[i].Origin += ", " + g.Origin
			default:
				all[i] = g
			}
		}
	}
	return all, nil
}
