package join

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// Pair is a certificate's file and its key's.
type Pair struct{ Cert, Key string }

// Files names every file that a node's components are started with.
type Files struct {
	ServerCA string // whom to trust as API server
	ClientCA string // the kubelet's clientCAFile

	ServingKubelet  Pair // the kubelet's tlsCertFile and tlsPrivateKeyFile
	ClientKubelet   Pair
	ClientKubeProxy Pair
	ClientNetwork   Pair

	// Kubeconfigs, 0600. They name the certificates by path, so that a client
	// that is running follows a renewal.
	Kubelet   string
	KubeProxy string
	Network   string
}

// FilesOf names the files below a data directory. They exist once the unit is ready.
func FilesOf(data paths.Data) Files {
	pair := func(name string) Pair { return Pair{data.AgentTLS(name + ".crt"), data.AgentTLS(name + ".key")} }
	return Files{
		ServerCA:        data.AgentTLS("server-ca.crt"),
		ClientCA:        data.AgentTLS("client-ca.crt"),
		ServingKubelet:  pair("serving-kubelet"),
		ClientKubelet:   pair("client-kubelet"),
		ClientKubeProxy: pair("client-kube-proxy"),
		ClientNetwork:   pair("client-network"),
		Kubelet:         data.Kubeconfig("kubelet"),
		KubeProxy:       data.Kubeconfig("kubeproxy"),
		Network:         data.Kubeconfig("network"),
	}
}

const maxPasswordFile = 4096

// ensurePassword reads this machine's node password, or makes one (0600).
func ensurePassword(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		password := token.NewPassword()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", fmt.Errorf("node password: %w", err)
		}
		return password, atomicfile.WriteFile(path, []byte(password+"\n"), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("node password: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxPasswordFile {
		return "", fmt.Errorf("node password: %s is a %v of %d bytes, want a file of at most %d", path, info.Mode().Type(), info.Size(), maxPasswordFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("node password: %w", err)
	}
	password := strings.TrimSpace(string(text))
	if err := joinapi.CheckNodePassword(password); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return password, nil
}
