//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// containers lists the containers of the namespace "web": pod, id, restarts.
func (c *cluster) containers() ([]string, error) {
	out, err := c.Run("kubectl", "get", "pods", "-n", "web", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
	if err != nil {
		return nil, err
	}
	list := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(list)
	return list, nil
}

// restart ends the server with end, starts it again and wants the same containers.
func (c *cluster) restart(t *testing.T, end func()) {
	t.Helper()
	before, err := c.containers()
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 3 {
		t.Fatalf("containers before: %v, want three", before)
	}
	end()
	// Pods and services answer while the server is away.
	for _, ip := range append([]string{c.web.clusterIP + ":80"}, c.web.ips[0]+":8080", c.web.ips[1]+":8080") {
		eventuallyPrints(t, c.Machine, podPatience, "web-", "curl", "-sS", "--max-time", "3", "http://"+ip)
	}
	t.Logf("warm start: Ready after %.1f s", c.serve(t))
	lab.Eventually(t, podPatience, "the same containers", func() error {
		after, err := c.containers()
		if err == nil && !slices.Equal(before, after) {
			err = fmt.Errorf("containers\nbefore %v\nafter  %v", before, after)
		}
		return err
	})
	for _, container := range before {
		if !strings.HasSuffix(container, " 0") {
			t.Errorf("was restarted: %s", container)
		}
	}
	testServices(t, c)
	testExec(t, c)
	testLogsOfShell(t, c)
}

func testLogsOfShell(t *testing.T, c *cluster) {
	if got := c.kubectl(t, "logs", "-n", "web", "shell"); got != "started\n" {
		t.Errorf("the log of a pod from before the restart: %q", got)
	}
}

func testStop(t *testing.T, c *cluster) {
	editPackaged(t, c)
	c.restart(t, func() { c.stop(t) })
	checkEditKept(t, c)
}

func testKill(t *testing.T, c *cluster) {
	c.restart(t, func() {
		c.server.Signal(t, "KILL")
		if err := c.server.Wait(t, podPatience); err == nil {
			t.Error("cleat server ended well after SIGKILL")
		}
	})
}

// testPowerCut ends everything at once. What was running starts anew.
func testPowerCut(t *testing.T, c *cluster) {
	c.Crash()
	c.Boot()
	t.Logf("start after a power cut: Ready after %.1f s", c.serve(t))
	c.kubectl(t, "wait", "-n", "web", "deployment/web", "--for=condition=Available", "--timeout=80s")
	lab.Eventually(t, podPatience, "every pod runs again", func() error {
		list, err := c.containers()
		if err != nil {
			return err
		}
		for _, container := range list {
			if strings.HasSuffix(container, " 0") {
				return errors.New("not restarted yet: " + container)
			}
		}
		return nil
	})
	c.web.ips = strings.Fields(c.kubectl(t, "get", "pods", "-n", "web", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"))
	testServices(t, c)
	testDNS(t, c)
}
