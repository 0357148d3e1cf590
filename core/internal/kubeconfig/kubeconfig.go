// Package kubeconfig writes the files with which clients of the API server
// find it and say who they are.
package kubeconfig

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// Config is a kubeconfig of one cluster, one user and one context.
//
// Certificate and key are given as PEM, which makes a file that works wherever
// it is copied, or as absolute paths, which lets a running client pick up a
// renewed certificate. Each of the three is one or the other.
type Config struct {
	Name   string // of cluster, user and context; "default" if empty
	Server string // https URL

	CA, Cert, Key             []byte // PEM
	CAFile, CertFile, KeyFile string // absolute paths
}

type document struct {
	APIVersion     string    `json:"apiVersion"`
	Kind           string    `json:"kind"`
	Clusters       []cluster `json:"clusters"`
	Contexts       []context `json:"contexts"`
	CurrentContext string    `json:"current-context"`
	Users          []user    `json:"users"`
}

type cluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     string `json:"certificate-authority-data,omitempty"`
		CAFile string `json:"certificate-authority,omitempty"`
	} `json:"cluster"`
}

type user struct {
	Name string `json:"name"`
	User struct {
		Cert     string `json:"client-certificate-data,omitempty"`
		CertFile string `json:"client-certificate,omitempty"`
		Key      string `json:"client-key-data,omitempty"`
		KeyFile  string `json:"client-key,omitempty"`
	} `json:"user"`
}

type context struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

// Marshal is the file's text. It holds the private key if Key was given: a
// secret, to be written 0600.
func (c Config) Marshal() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	name := c.Name
	if name == "" {
		name = "default"
	}
	var cl cluster
	cl.Name, cl.Cluster.Server = name, c.Server
	cl.Cluster.CA, cl.Cluster.CAFile = encode(c.CA), c.CAFile
	var us user
	us.Name = name
	us.User.Cert, us.User.CertFile = encode(c.Cert), c.CertFile
	us.User.Key, us.User.KeyFile = encode(c.Key), c.KeyFile
	var co context
	co.Name, co.Context.Cluster, co.Context.User = name, name, name
	return yaml.Marshal(document{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters: []cluster{cl}, Contexts: []context{co}, Users: []user{us},
	})
}

func (c Config) check() error {
	u, err := url.Parse(c.Server)
	if err != nil {
		return fmt.Errorf("server %q: %w", c.Server, err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("server %q: want https://host:port", c.Server)
	}
	for _, f := range []struct {
		what string
		text []byte
		path string
	}{{"CA", c.CA, c.CAFile}, {"certificate", c.Cert, c.CertFile}, {"key", c.Key, c.KeyFile}} {
		if (len(f.text) == 0) == (f.path == "") {
			return fmt.Errorf("%s: want its text or its path, one of the two", f.what)
		}
		if f.path != "" && !filepath.IsAbs(f.path) {
			return fmt.Errorf("%s: path %q is not absolute", f.what, f.path)
		}
	}
	return nil
}

func encode(text []byte) string { return base64.StdEncoding.EncodeToString(text) }
