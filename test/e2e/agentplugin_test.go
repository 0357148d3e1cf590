//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	// fetchedDir is where an agent keeps the network plugin that is not its binary's.
	fetchedDir = "/var/lib/cleat/agent/plugins"
	// otherCleat is a program of another minor version.
	otherCleat = "/var/lib/cleat/other/cleat"
	// followPatience is for an agent that asks every 30 seconds.
	followPatience = 2 * time.Minute
)

// TestAgentPlugin joins agents to a server whose operator ships a network plugin of
// his own: a file that no binary has. n2 is an agent as the server is, n3 has a
// Kubernetes that is a minor version older, n4 one that is two.
func TestAgentPlugin(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := newNode(t, l, "n1", "--plugins-lock", lockPath)
	n2, n3, n4 := newAgent(t, l, n, "n2"), newAgent(t, l, n, "n3"), newAgent(t, l, n, "n4")
	version := regexp.MustCompile(`v1\.[0-9]+\.[0-9]+\+cleat[0-9]+`).FindString(n.Must(t, "cleat", "version"))
	if version == "" {
		t.Fatal("cleat version names no Kubernetes")
	}
	older, tooOld := minorsBefore(t, version, 1), minorsBefore(t, version, 2)
	installVersion(t, n3.Machine, version, older)
	installVersion(t, n4.Machine, version, tooOld)

	n.Must(t, "sh", "-c", "mkdir -p /etc/cleat && cleat plugin list -o lock >"+lockPath)
	first := lockNetwork(t, n, "9.0.1")
	t.Logf("n1 is Ready after %.1f s", n.serve(t))
	n4.as(t, joinCommand(n4))
	n3.as(t, joinCommand(n3))
	n2.start(t)

	t.Run("two minor versions older", func(t *testing.T) {
		if err := n4.process.Wait(t, bootPatience); err == nil {
			t.Error("cleat agent ended with status 0")
		}
		line := lineWith(t, n4, "want at most 1 minor version between them")
		for _, part := range []string{tooOld, version, "upgrade this node"} {
			if !strings.Contains(line, part) {
				t.Errorf("the line lacks %q: %s", part, line)
			}
		}
		if _, err := n.Run("kubectl", "get", "node", "n4"); err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("the node n4: %v, want none", err)
		}
	})
	t.Run("one minor version older", func(t *testing.T) {
		t.Logf("n3 is Ready after %.1f s", n3.awaitReady(t))
		if got := n.kubectl(t, "get", "node", "n3", "-o", "jsonpath={.status.nodeInfo.kubeletVersion}"); got != older {
			t.Errorf("the kubelet of n3 is %s, want %s", got, older)
		}
		n3.awaitNetwork(t, first, podPatience)
	})

	t.Run("fetched and run", func(t *testing.T) {
		t.Logf("n2 is Ready after %.1f s", n2.awaitReady(t))
		n2.awaitNetwork(t, first, podPatience)
	})
	t.Run("damaged on the server", func(t *testing.T) {
		n2.stop(t)
		n2.Must(t, "rm", fetchedDir+"/"+first.digest+".wasm")
		flipByte(t, n.Machine, first.file)
		n2.start(t)
		if err := n2.process.Wait(t, bootPatience); err == nil {
			t.Error("cleat agent ended with status 0")
		}
		line := lineWith(t, n2, "put the file that was locked in its place")
		for _, part := range []string{"cni-flannel", first.digest, filepath.Base(first.file)} {
			if !strings.Contains(line, part) {
				t.Errorf("the line lacks %q: %s", part, line)
			}
		}
		if files := n2.fetched(t); len(files) > 0 {
			t.Errorf("the agent keeps %v", files)
		}
		flipByte(t, n.Machine, first.file)
	})

	second := lockNetwork(t, n, "9.0.2")
	n.Must(t, "cleat", "plugin", "reload")
	changed := time.Now()
	ns := n.namespace(t, "shipped")
	across := func(t *testing.T) {
		for _, name := range []string{"n1", "n2", "n3"} {
			n.awaitPod(t, ns, "web-"+name)
		}
		reachEachOther(t, n, ns, []string{"n1", "n2", "n3"})
	}
	t.Run("another build at the next start", func(t *testing.T) {
		n2.start(t)
		n.apply(t, ns, webOn("n1", "n2", "n3"))
		n2.awaitNetwork(t, second, bootPatience)
		across(t)
	})
	t.Run("a flipped byte on the disk", func(t *testing.T) {
		n2.stop(t)
		flipByte(t, n2.Machine, fetchedDir+"/"+second.digest+".wasm")
		n2.start(t)
		n2.awaitNetwork(t, second, bootPatience)
		if line := lineWith(t, n2, "is damaged and is fetched again"); !strings.Contains(line, second.digest) {
			t.Errorf("the line does not name the file: %s", line)
		}
	})
	t.Run("a changed lock is followed", func(t *testing.T) {
		n3.awaitNetwork(t, second, followPatience)
		t.Logf("after %.1f s", time.Since(changed).Seconds())
		if ended, err := n3.process.Ended(); ended {
			t.Errorf("cleat agent ended: %v", err)
		}
		across(t)
	})
}

// networkPlugin is a build of cni-flannel that only the server has.
type networkPlugin struct{ version, digest, file string }

// lockNetwork puts cni-flannel under another version into the plugins directory of
// the server and pins it in the lock.
func lockNetwork(t *testing.T, n *node, version string) networkPlugin {
	t.Helper()
	wasm, err := os.ReadFile(artefact(t, "CLEAT_FLANNEL", "build/bundle/plugins/cni-flannel.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	wasm = atVersion(t, wasm, version)
	name := "cni-flannel-" + version + ".wasm"
	putPlugin(t, n, wasm, name)
	p := networkPlugin{version, fmt.Sprintf("%x", sha256.Sum256(wasm)), pluginsDir + "/" + name}
	n.Must(t, "cleat", "plugin", "lock", "--plugins-lock", lockPath, p.file)
	return p
}

// awaitNetwork waits until the agent's units are ready and it runs that plugin and
// no other, and wants no other file on its disk.
func (a *agent) awaitNetwork(t *testing.T, want networkPlugin, patience time.Duration) {
	t.Helper()
	type plugin struct{ Name, Version, Digest, State string }
	lab.Eventually(t, patience, a.Name+" runs cni-flannel "+want.version, func() error {
		out, err := a.Run("cleat", "status", "-o", "json")
		if err != nil {
			return err
		}
		var s struct {
			State   string
			Plugins []plugin
		}
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			return err
		}
		if s.State != "ready" || !slices.Equal(s.Plugins, []plugin{{"cni-flannel", want.version, want.digest[:12], "active"}}) {
			return fmt.Errorf("it is %s and runs %+v", s.State, s.Plugins)
		}
		if files := a.fetched(t); !slices.Equal(files, []string{want.digest + ".wasm"}) {
			return fmt.Errorf("it keeps %v", files)
		}
		return nil
	})
}

// fetched are the names of the files that the agent has from the server.
func (a *agent) fetched(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(a.Path(fetchedDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// lineWith is the line of the agent's log that has the words.
func lineWith(t *testing.T, a *agent, words string) string {
	t.Helper()
	for line := range strings.Lines(a.process.Log()) {
		if strings.Contains(line, words) {
			t.Logf("%s: %s", a.Name, line)
			return line
		}
	}
	t.Errorf("%s says nowhere %q", a.Name, words)
	return ""
}

// flipByte changes a byte in the middle of a file of the machine; twice, it is as it
// was.
func flipByte(t *testing.T, m *lab.Machine, inside string) {
	t.Helper()
	wasm, err := os.ReadFile(m.Path(inside))
	if err != nil {
		t.Fatal(err)
	}
	wasm[len(wasm)/2] ^= 1
	if err := os.WriteFile(m.Path(inside), wasm, 0o600); err != nil {
		t.Fatal(err)
	}
}

// joinCommand starts the agent with the program of another version.
func joinCommand(a *agent) []string {
	return []string{otherCleat, "agent", "--server", fmt.Sprintf("https://%s:6443", a.of.Addr), "--token-file", "/etc/cleat/token"}
}

// minorsBefore is a version of Kubernetes that many minor versions before another.
func minorsBefore(t *testing.T, version string, many int) string {
	t.Helper()
	parts := strings.SplitN(version, ".", 3)
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	parts[1] = strconv.Itoa(minor - many)
	return strings.Join(parts, ".")
}

// installVersion puts a program on the machine that is this cleat in all but the
// version of Kubernetes that it says it has.
func installVersion(t *testing.T, m *lab.Machine, version, other string) {
	t.Helper()
	if len(other) != len(version) {
		t.Fatalf("%s does not fit into the place of %s", other, version)
	}
	program, err := os.ReadFile(artefact(t, "CLEAT_BIN", "bin/cleat"))
	if err != nil {
		t.Fatal(err)
	}
	places := 0
	for at := 0; ; places++ {
		next := bytes.Index(program[at:], []byte(version))
		if next < 0 {
			break
		}
		at += next + copy(program[at+next:], other)
	}
	path := m.Path(otherCleat)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, program, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out := m.Must(t, otherCleat, "version"); places == 0 || !strings.Contains(out, other) || strings.Contains(out, version) {
		t.Fatalf("with %s in place of %s in %d places it prints\n%s", other, version, places, out)
	}
}
