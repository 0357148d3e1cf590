package pluginregistry

import "strings"

// attempts are the errors of several endpoints, on one line.
type attempts []error

// join is errors.Join on one line; what was said once is not said again.
func join(errs ...error) error {
	var all attempts
	said := map[string]bool{}
	for _, err := range errs {
		if err != nil && !said[err.Error()] {
			said[err.Error()] = true
			all = append(all, err)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func (a attempts) Error() string {
	texts := make([]string, len(a))
	for i, err := range a {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; and ")
}

// Unwrap is for errors.Is and errors.As.
func (a attempts) Unwrap() []error { return a }
