//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// faultPatience is how long a server may take to say what is wrong.
const faultPatience = bootPatience

// fault is something wrong with a machine. harm brings it about and mend takes it
// back, both in a shell, in which $db is the database. says is all that a server
// must tell; if ends, as its last words.
type fault struct {
	name       string
	args       []string // more flags of the server
	listen     string   // an address that another program has
	harm, mend string
	ends       bool
	says       []string
}

func faults() []fault {
	alone := []string{"--disable-agent"}
	return []fault{
		{
			name: "read-only data directory", args: alone,
			harm: "mount --bind /var/lib/cleat /var/lib/cleat && mount -o remount,ro,bind /var/lib/cleat", mend: "umount /var/lib/cleat",
			ends: true, says: []string{"/var/lib/cleat/server", "read-only file system", "--data-dir"},
		},
		{
			name: "full disk", args: alone,
			harm: "mount -t tmpfs -o size=1m full /var/lib/cleat", mend: "umount /var/lib/cleat",
			ends: true, says: []string{"/var/lib/cleat/", "no space left on device", "df -h"},
		},
		{
			name: "database that is none", args: alone,
			harm: "cp $db /tmp/db && printf 'a letter to somebody' | dd of=$db conv=notrunc status=none", mend: "cp /tmp/db $db",
			ends: true, says: []string{"unit datastore", "state.db is damaged", "put a copy from before back"},
		},
		{
			name: "database with noise in it", args: alone,
			harm: "cp $db /tmp/db && dd if=/dev/urandom of=$db bs=4096 seek=1 count=40 conv=notrunc status=none", mend: "cp /tmp/db $db",
			ends: true, says: []string{"unit datastore", "state.db is damaged"},
		},
		{
			name: "database cut short", args: alone,
			harm: "cp $db /tmp/db && truncate -s 40000 $db", mend: "cp /tmp/db $db",
			ends: true, says: []string{"unit datastore", "state.db is damaged"},
		},
		{
			name: "database gone", args: alone,
			harm: "mv $db /tmp/db", mend: "rm -f $db-* && mv /tmp/db $db",
			says: []string{"the datastore is empty although this machine has served a cluster"},
		},
		{
			name: "no room for the database", args: alone,
			harm: "mkdir /tmp/kept && cp $db /tmp/kept && mount -t tmpfs -o size=8m full ${db%/*} && cp /tmp/kept/* ${db%/*} && ! dd if=/dev/zero of=${db%/*}/fill bs=4096 status=none",
			mend: "umount ${db%/*}",
			ends: true, says: []string{"unit datastore", "state.db", "disk", "full", "df -h"},
		},
		{
			name: "authority of another cluster", args: alone,
			harm: "cd ${db%/*}/../tls && cp server-ca.crt /tmp && cp client-ca.crt server-ca.crt", mend: "cp /tmp/server-ca.crt ${db%/*}/../tls",
			ends: true, says: []string{"tls/server-ca.crt", "start again"},
		},
		{
			name: "certificate that is none", args: alone,
			harm: "cd ${db%/*}/../tls && echo x >serving-kube-apiserver.crt", mend: "rm ${db%/*}/../tls/serving-kube-apiserver.crt",
			ends: true, says: []string{"unit pki", "serving-kube-apiserver.crt", "remove the file"},
		},
		{
			name: "port of the supervisor taken", args: alone, listen: "127.0.0.1:6443",
			ends: true, says: []string{"unit supervisor", "6443", "address already in use", "--https-listen-port", "ss -ltnp"},
		},
		{
			name: "port of the controller manager taken", args: alone, listen: "127.0.0.1:10257",
			ends: true, says: []string{"unit controllermanager", "10257", "address already in use", "ss -ltnp"},
		},
		{
			name: "port of the scheduler taken", args: alone, listen: "127.0.0.1:10259",
			ends: true, says: []string{"unit scheduler", "10259", "address already in use", "ss -ltnp"},
		},
		{
			name: "port of the kubelet taken", listen: "127.0.0.1:10250",
			ends: true, says: []string{"unit kubelet", "10250", "address already in use", "ss -ltnp"},
		},
		{
			name: "port of kube-proxy taken", listen: "127.0.0.1:10249",
			ends: true, says: []string{"unit kubeproxy", "10249", "address already in use", "ss -ltnp"},
		},
		{
			name: "kernel without control groups", harm: "mount -t tmpfs none /sys/fs/cgroup", mend: "umount /sys/fs/cgroup",
			ends: true, says: []string{"cgroups: neither the top of /sys/fs/cgroup", "--disable-agent"},
		},
		{
			name: "no nft", harm: "mount --bind /dev/null /usr/sbin/nft", mend: "umount /usr/sbin/nft",
			ends: true, says: []string{"nft"},
		},
		{
			name: "snapshotter that is missing", args: []string{"--snapshotter", "stargz"},
			ends: true, says: []string{"containerd: containerd runs, but its CRI plugin did not start", "stargz"},
		},
		{
			name: "database that refuses", args: []string{"--disable-agent", "--datastore-endpoint", "postgres://u:hidden@127.0.0.1:5432/db"},
			says: []string{"connection refused", "127.0.0.1:5432"},
		},
		{
			name: "database that never answers", args: []string{"--disable-agent", "--datastore-endpoint", "postgres://u:hidden@127.0.0.1:5432/db"}, listen: "127.0.0.1:5432",
			says: []string{"unit is still starting", `"unit":"datastore"`, "127.0.0.1:5432"},
		},
		{
			name: "no network", args: alone, harm: "ip link set eth0 down", mend: "ip link set eth0 up && ip route add default via 10.99.0.254",
			ends: true, says: []string{"no other interface that is up has a global address", "bring the machine's network up", "--node-ip"},
		},
	}
}

// TestFaults starts a server on a machine that is broken in one way after another.
// It must say what is wrong, and once that is mended the cluster is as it was.
func TestFaults(t *testing.T) {
	n := newNode(t, newLab(t), "n1")
	n.serve(t)
	startWeb(t, n)
	n.kubectl(t, "create", "configmap", "kept", "--from-literal=a=b")
	if out, err := n.Run("cleat", "server", "--disable-agent"); err == nil || !strings.Contains(err.Error(), "cleat: cleat runs on /var/lib/cleat already (process ") {
		t.Errorf("a second server: %s%v, want it refused with the number of the first", out, err)
	}
	n.stop(t)
	sh := func(t *testing.T, script string) {
		t.Helper()
		if script != "" {
			n.Must(t, "sh", "-euc", "db="+stateFile+"; "+script)
		}
	}
	from := 0 // where the log of the last server ends
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			defer sh(t, f.mend)
			sh(t, f.harm)
			if f.listen != "" {
				defer n.ListenOn(t, f.listen).Close()
			}
			p := n.Start(t, "cleat-faulty", append([]string{"cleat", "server"}, slices.Concat(n.args, f.args)...)...)
			defer func() { // also when it did not do what it should
				if ended, _ := p.Ended(); !ended {
					p.Signal(t, "KILL")
					_ = p.Wait(t, podPatience) // says that it was killed
				}
				from = len(p.Log())
			}()
			begun := time.Now()
			lab.Eventually(t, faultPatience, "what is wrong", func() error {
				ended, _ := p.Ended()
				if f.ends && !ended {
					return errors.New("the server still runs")
				}
				text := p.Log()[from:]
				if f.ends {
					_, text, _ = strings.Cut("\n"+text, "\ncleat: ")
				}
				for _, want := range f.says {
					if !strings.Contains(text, want) {
						return fmt.Errorf("it does not say %q but %q", want, text)
					}
				}
				return nil
			})
			t.Logf("said after %.1f s", time.Since(begun).Seconds())
			ended, err := p.Ended()
			if f.ends != ended {
				t.Fatalf("ended: %v (%v), want %v", ended, err, f.ends)
			}
			if f.ends && err == nil {
				t.Error("exit code 0")
			}
			if !ended {
				p.Signal(t, "TERM")
				if err := p.Wait(t, podPatience); err != nil {
					t.Errorf("after SIGTERM: %v", err)
				}
			}
			if strings.Contains(p.Log()[from:], "hidden") {
				t.Error("the log shows a password")
			}
		})
	}
	// Programs that are missing or broken are unpacked again.
	sh(t, "rm ${db%/server*}/data/[0-9a-f][0-9a-f][0-9a-f]*/bin/runc; : >$(ls -d ${db%/server*}/data/[0-9a-f][0-9a-f][0-9a-f]*/bin)/bridge")
	n.serve(t)
	n.kubectl(t, "get", "configmap", "kept")
	n.kubectl(t, "rollout", "restart", "-n", "web", "deployment/web")
	n.kubectl(t, "rollout", "status", "-n", "web", "deployment/web", "--timeout=80s")
}

// TestFullDisk fills the disk of the database under a server that runs. Writes fail
// and say why, the server lives, and with room again all is as before.
func TestFullDisk(t *testing.T) {
	n := newNode(t, newLab(t), "n1", "--disable-agent")
	db := path.Dir(stateFile)
	n.Must(t, "sh", "-euc", "mkdir -p "+db+" && mount -t tmpfs -o size=48m small "+db)
	n.start(t)
	lab.Eventually(t, bootPatience, "all units", func() error {
		if ended, err := n.server.Ended(); ended {
			t.Fatalf("cleat server ended: %v", err)
		}
		_, err := n.Run("cleat", "status")
		return err
	})
	n.kubectl(t, "create", "configmap", "kept", "--from-literal=a=b")
	n.WriteFile(t, "/etc/cleat/large", strings.Repeat("x", 500_000))
	n.Must(t, "sh", "-c", "! dd if=/dev/zero of="+db+"/fill bs=4096 status=none")

	written := 0
	lab.Eventually(t, podPatience, "a write that fails", func() error {
		_, err := n.Run("kubectl", "create", "configmap", fmt.Sprint("large-", written), "--from-file=/etc/cleat/large")
		if err == nil {
			written++
			return fmt.Errorf("%d objects of 500 kB fitted", written)
		}
		if !strings.Contains(err.Error(), "disk") {
			return err
		}
		t.Logf("after %d objects of 500 kB a client is told: %v", written, err)
		return nil
	})
	lab.Eventually(t, podPatience, "the status that says so", func() error {
		out, err := n.Run("cleat", "status")
		if err == nil || !strings.Contains(out, "the disk of "+db+" has ") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	if ended, err := n.server.Ended(); ended {
		t.Fatalf("the server ended: %v", err)
	}

	n.Must(t, "rm", db+"/fill")
	lab.Eventually(t, podPatience, "a write with room again", func() error {
		_, err := n.Run("kubectl", "create", "configmap", "after", "--from-literal=a=b")
		return err
	})
	lab.Eventually(t, podPatience, "all units ready again", func() error {
		_, err := n.Run("cleat", "status")
		return err
	})
	n.stop(t)
	n.Must(t, "cp", stateFile, "/var/lib/cleat/copy.db") // to where the test can see it
	checkIntegrity(t, n.Path("/var/lib/cleat/copy.db"))
	n.start(t)
	lab.Eventually(t, bootPatience, "what was written", func() error {
		_, err := n.Run("kubectl", "get", "configmap", "kept", "after")
		return err
	})
}
