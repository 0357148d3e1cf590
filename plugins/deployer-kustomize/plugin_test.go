package main

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func TestReadme(t *testing.T) { plugintest.Readme(t, "README.md", manifest) }

// block decodes the fenced block of the README that begins with the word.
func block(t *testing.T, word string, into any) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "\n```"+word+"\n")
	text, _, closed := strings.Cut(rest, "\n```")
	if !found || !closed {
		t.Fatalf("README.md has no block %q", word)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("block %q: %v", word, err)
	}
}

// The example that has a kustomization built.
func TestReadmeDirectory(t *testing.T) {
	var in hostabi.DeployRequest
	var built []json.RawMessage
	var want, got any
	block(t, "json input", &in)
	block(t, "json built", &built)
	block(t, "json result", &want)
	p := plugintest.New(t, manifest, nil)
	p.RenderKustomize = func(of hostabi.DeployRequest, req hostabi.KustomizeRequest) ([]json.RawMessage, error) {
		if of.File != "shop" || req.Path != "" {
			t.Errorf("asked for %+v of %s", req, of.File)
		}
		return built, nil
	}
	result, claimed, err := p.Deploy(in)
	if err != nil || !claimed {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	text, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("result is\n%v\nwant\n%v", got, want)
	}
}

func TestRender(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		in := hostabi.DeployRequest{Kind: hostabi.DeployKindDirectory, File: "web", Addon: "web", Files: []string{name}}
		p.RenderKustomize = func(hostabi.DeployRequest, hostabi.KustomizeRequest) ([]json.RawMessage, error) { return nil, nil }
		result, claimed, err := p.Deploy(in)
		if err != nil || !claimed || result.Objects == nil || len(result.Objects) != 0 || len(result.Warnings) != 1 {
			t.Errorf("%s: %+v, %v, %v", name, result, claimed, err)
		}
		p.RenderKustomize = func(hostabi.DeployRequest, hostabi.KustomizeRequest) ([]json.RawMessage, error) {
			return nil, errors.New(`kustomization: resources: "https://x" is not in the directory`)
		}
		if _, claimed, err := p.Deploy(in); claimed || err == nil || !strings.Contains(err.Error(), `"https://x" is not in the directory`) {
			t.Errorf("%s: claimed %v, %v", name, claimed, err)
		}
	}
}
