package crictl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

const (
	defaultTimeout = 2 * time.Second
	defaultData    = paths.Data("/var/lib/cleat")
	maxConfigSize  = 1 << 20
)

// settings are what a connection needs.
type settings struct {
	runtimeEndpoint, imageEndpoint string
	timeout                        time.Duration
}

// configFile is crictl's configuration file. Keys that are not here, such as
// pull-image-on-create, concern commands that are not here either.
type configFile struct {
	RuntimeEndpoint string `json:"runtime-endpoint"`
	ImageEndpoint   string `json:"image-endpoint"`
	Timeout         int    `json:"timeout"` // seconds
}

// settings gathers flags, environment, configuration file and defaults, in that order.
func (a *app) settings() (settings, error) {
	// A file that was named must be there; the node's own may be missing.
	named := cmp.Or(a.configFile, a.getenv("CRI_CONFIG_FILE"))
	file, err := readConfig(cmp.Or(named, defaultData.CrictlConfig()))
	if err != nil && (named != "" || !errors.Is(err, fs.ErrNotExist)) {
		return settings{}, fmt.Errorf("configuration: %w", err)
	}
	s := settings{
		runtimeEndpoint: cmp.Or(a.runtimeEndpoint, a.getenv("CONTAINER_RUNTIME_ENDPOINT"), file.RuntimeEndpoint, paths.CRISocket),
		imageEndpoint:   cmp.Or(a.imageEndpoint, a.getenv("IMAGE_SERVICE_ENDPOINT"), file.ImageEndpoint),
		timeout:         cmp.Or(a.timeout, time.Duration(file.Timeout)*time.Second, defaultTimeout),
	}
	if s.timeout < 0 {
		return settings{}, fmt.Errorf("timeout %v: want a positive duration", s.timeout)
	}
	s.imageEndpoint = cmp.Or(s.imageEndpoint, s.runtimeEndpoint)
	s.runtimeEndpoint, s.imageEndpoint = withScheme(s.runtimeEndpoint), withScheme(s.imageEndpoint)
	return s, nil
}

// withScheme makes a bare path a unix socket.
func withScheme(endpoint string) string {
	if strings.HasPrefix(endpoint, "/") {
		return "unix://" + endpoint
	}
	return endpoint
}

func readConfig(path string) (configFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return configFile{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return configFile{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxConfigSize {
		return configFile{}, fmt.Errorf("%s is larger than %d bytes", path, maxConfigSize)
	}
	c, err := parseConfig(content)
	if err != nil {
		return configFile{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseConfig(content []byte) (configFile, error) {
	var c configFile
	if err := yaml.Unmarshal(content, &c); err != nil {
		return configFile{}, err
	}
	const most = int(time.Hour / time.Second)
	if c.Timeout < 0 || c.Timeout > most {
		return configFile{}, fmt.Errorf("timeout %d: want 0 to %d seconds", c.Timeout, most)
	}
	return c, nil
}
