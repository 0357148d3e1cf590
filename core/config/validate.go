package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// Validate checks what Load and Detect have filled. The error joins one
// *OptionError for each thing that is wrong. What belongs to a plugin, such as
// the form of --datastore-endpoint, is left to it. It may also be called
// before Detect, to tell of bad choices first; what Detect would fill and is
// still empty is then not checked.
func (c *Config) Validate() error {
	v := checker{c: c}
	v.general()
	if c.IsAgent() {
		v.joining()
	} else {
		v.certificates()
		v.kubeconfig()
		v.listener()
		v.networks()
		v.components()
	}
	for _, o := range Table() {
		if o.Group == groupArguments {
			v.arguments(o)
		}
	}
	if !c.DisableAgent {
		v.node()
	}
	return errors.Join(v.errs...)
}

// A certificate that ends sooner could end between two looks at it, and none
// outlives its authority.
const (
	minCertificateLifetime = 30 * time.Second
	maxCertificateLifetime = 10 * 365 * 24 * time.Hour
)

type checker struct {
	c    *Config
	errs []error
}

// bad records a problem with one value of an option.
func (v *checker) bad(name, value, format string, args ...any) {
	v.errs = append(v.errs, &OptionError{Name: name, Value: value, Origin: v.c.Origin(name), Problem: fmt.Sprintf(format, args...)})
}

func (v *checker) general() {
	c := v.c
	if !slices.Contains([]string{"auto", "text", "json"}, c.LogFormat) {
		v.bad("log-format", c.LogFormat, "unknown; write auto, text or json")
	}
	if c.Verbosity < 0 || c.Verbosity > 10 {
		v.bad("v", strconv.Itoa(c.Verbosity), "write a number from 0 to 10")
	}
	if c.AlsoLogToStderr && c.LogFile == "" {
		v.bad("alsologtostderr", "true", "the log goes there anyway; give a file with --log, or leave the flag out")
	}
	switch {
	case c.DataDir == "":
		v.bad("data-dir", "", "is empty; name a directory, or leave the flag out for %s", DefaultDataDir)
	case c.DataDir == "/":
		v.bad("data-dir", c.DataDir, "would fill the root directory; name a directory below it")
	}
	v.secret("token", c.Token, c.TokenFile)
	v.secret("agent-token", c.AgentToken, c.AgentTokenFile)
}

// joining checks what an agent needs of a server.
func (v *checker) joining() {
	c := v.c
	if c.Token == "" && c.TokenFile == "" {
		v.bad("token", "", "is missing; a server has it in %s, give it with --token-file or %s", paths.Data(DefaultDataDir).NodeToken(), envPrefix+"TOKEN")
	}
	v.port("lb-server-port", c.LBServerPort)
	const form = "write https://HOST:6443 with the name or address of a server"
	u, err := url.Parse(c.Server)
	switch {
	case c.Server == "":
		v.bad("server", "", "is missing; "+form)
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		v.bad("server", shortened(c.Server), "not a server's URL; "+form)
	case u.Port() == "":
		v.bad("server", c.Server, "has no port; "+form)
	}
}

func (v *checker) certificates() {
	if d := v.c.CertificateLifetime; d < minCertificateLifetime || d > maxCertificateLifetime {
		v.bad("certificate-lifetime", hours(d), "write a time from %s to %s, such as 720h", hours(minCertificateLifetime), hours(maxCertificateLifetime))
	}
}

// kubeconfig checks where the administrator's kubeconfig goes.
func (v *checker) kubeconfig() {
	c := v.c
	if c.WriteKubeconfig == "" {
		v.bad("write-kubeconfig", "", "is empty; name a file, or leave the flag out for %s", DefaultWriteKubeconfig)
	}
	mode, err := strconv.ParseUint(c.WriteKubeconfigMode, 8, 32)
	switch {
	case err != nil || mode > 0o777:
		v.bad("write-kubeconfig-mode", c.WriteKubeconfigMode, "not an octal file mode; write one such as 0600 or 0640")
	case mode&0o400 == 0:
		v.bad("write-kubeconfig-mode", c.WriteKubeconfigMode, "its owner could not read the file; write one such as 0600 or 0640")
	case c.WriteKubeconfigGroup != "" && mode&0o040 == 0:
		v.bad("write-kubeconfig-group", c.WriteKubeconfigGroup, "cannot read a file of mode %s; set --write-kubeconfig-mode 0640 too", c.WriteKubeconfigMode)
	}
}

// secret judges a token that may be given by itself or in a file.
func (v *checker) secret(name, token, file string) {
	if file != "" && token != "" && v.c.Origin(name) != originDetected {
		v.bad(name+"-file", file, "given together with --%s (%s); give one of them", name, v.c.Origin(name))
	}
	value := ""
	if file != "" && v.c.Origin(name) == originDetected {
		name, value = name+"-file", file
	}
	if strings.ContainsAny(token, " \t\r\n") {
		v.bad(name, value, "holds white space; give one word")
	} else if len(token) > maxToken {
		v.bad(name, value, "is longer than %d bytes", maxToken)
	}
}

func (v *checker) components() {
	c := v.c
	for _, name := range c.Disable {
		if !isWord(name) {
			v.bad("disable", name, "not a component's name; write the base name of its manifest, such as coredns for coredns.yaml")
		}
	}
	if !slices.Contains([]string{"off", "faults", "decisions"}, c.PluginsCapture) {
		v.bad("plugins-capture", c.PluginsCapture, "unknown; write off, faults or decisions")
	}
	if !slices.Contains([]string{EgressAgent, EgressPod, EgressCluster, EgressDisabled}, c.EgressSelectorMode) {
		v.bad("egress-selector-mode", c.EgressSelectorMode, "unknown; write agent, pod, cluster or disabled")
	}
	for _, name := range []string{"flannel-backend", "cni"} {
		value := c.FlannelBackend
		if name == "cni" {
			value = c.CNI
		}
		if !isWord(value) {
			v.bad(name, value, "not a name; write small letters, digits and dashes")
		}
	}
}

// arguments checks the flags that are handed on to a component.
func (v *checker) arguments(o Option) {
	for _, arg := range o.Values(&v.c.Options) {
		key, value, ok := strings.Cut(arg, "=")
		bare := strings.TrimLeft(key, "-")
		switch {
		case bare != key:
			v.bad(o.Name, arg, "starts with dashes; write %q", strings.TrimLeft(arg, "-"))
		case !ok:
			v.bad(o.Name, arg, "has no value; write key=value, such as %q", key+"=true")
		case !isWord(strings.ToLower(strings.ReplaceAll(key, "_", "-"))):
			v.bad(o.Name, shortened(key)+"="+shortened(value), "the key is not a flag's name; write key=value")
		}
	}
}

// isWord accepts names such as cni-flannel or metrics-server.v2.
func isWord(s string) bool {
	return len(validation.IsDNS1123Subdomain(s)) == 0
}

func shortened(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// reasons joins what the validation library says into one line.
func reasons(all []string) string {
	if len(all) == 0 {
		return ""
	}
	first, _, _ := strings.Cut(all[0], " (e.g.")
	return first
}
