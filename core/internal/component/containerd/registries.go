package containerd

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

// registryAuth is a credential; Host is the key of its entry.
type registryAuth struct {
	Host, Username, Password, Auth, IdentityToken string
}

// readRegistries reads registries.yaml; no file means no mirrors.
func (c *Component) readRegistries() (*registriesfile.File, error) {
	f, err := registriesfile.Read(c.Config.PrivateRegistry)
	if err != nil {
		return nil, fmt.Errorf("private-registry: %w", err)
	}
	return f, nil
}

// auths returns the credentials in the order of their hosts.
func auths(f *registriesfile.File) []registryAuth {
	var out []registryAuth
	for _, host := range slices.Sorted(maps.Keys(f.Configs)) {
		if a := f.Auth(host); a != nil {
			out = append(out, registryAuth{host, a.Username, a.Password, a.Auth, a.IdentityToken})
		}
	}
	return out
}
