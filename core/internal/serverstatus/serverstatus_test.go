package serverstatus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/kernel"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// reporterOf is a reporter whose units are in these states, named a, b, c ….
func reporterOf(states ...kernel.State) *Reporter {
	return &Reporter{
		About: Status{Version: "0.1.0", Kubernetes: "v1.2.3", Node: "n1", StartedAt: began},
		Sources: Sources{
			Units: func() (units []kernel.Status) {
				for i, s := range states {
					units = append(units, kernel.Status{Unit: string(rune('a' + i)), State: s})
				}
				return units
			},
			Datastore:    func() (Datastore, bool) { return Datastore{Driver: "kine"}, len(states) > 0 },
			Plugins:      func() []Plugin { return nil },
			Addons:       func() []Addon { return nil },
			Certificates: func(time.Time) []Certificate { return nil },
			Now:          func() time.Time { return began.Add(time.Minute) },
		},
	}
}

func TestState(t *testing.T) {
	const ready, unhealthy = kernel.StateReady, kernel.StateUnhealthy
	for _, tt := range []struct {
		units []kernel.State
		want  State
	}{
		{nil, StateStarting},
		{[]kernel.State{ready, kernel.StateWaiting}, StateStarting},
		{[]kernel.State{ready, kernel.StateStarting, unhealthy}, StateStarting},
		{[]kernel.State{ready, ready}, StateReady},
		{[]kernel.State{ready, unhealthy}, StateDegraded},
		{[]kernel.State{ready, unhealthy, kernel.StateStopping}, StateStopping},
		{[]kernel.State{kernel.StateFailed, kernel.StateWaiting}, StateStopping},
		{[]kernel.State{kernel.StateStopped}, StateStopping},
	} {
		if got := reporterOf(tt.units...).Status().State; got != tt.want {
			t.Errorf("%v: %s, want %s", tt.units, got, tt.want)
		}
	}
}

func TestTimelineAndBounds(t *testing.T) {
	r := reporterOf(kernel.StateReady)
	ready := int64(250)
	r.Units = func() []kernel.Status {
		return []kernel.Status{
			{Unit: "a", StartedAt: began.Add(1500 * time.Millisecond), ReadyAfterMS: &ready},
			{Unit: "b", State: kernel.StateWaiting},
		}
	}
	long := strings.Repeat("ä", 1000)
	r.Addons = func() []Addon { return []Addon{{Name: "x", Error: long}} }
	fault := &LastTime{Text: long}
	r.Plugins = func() []Plugin { return []Plugin{{Name: "p", LastFault: fault}} }
	s := r.Status()
	if a := s.Units[0]; a.StartedAfterMS == nil || *a.StartedAfterMS != 1500 || *a.ReadyAfterMS != 250 {
		t.Errorf("unit a: %+v", a)
	}
	if b := s.Units[1]; b.StartedAfterMS != nil {
		t.Errorf("unit b: started after %d ms, but it was not", *b.StartedAfterMS)
	}
	for _, text := range []string{s.Addons[0].Error, s.Plugins[0].LastFault.Text} {
		if len(text) > maxError || len(text) < maxError-4 || !strings.HasSuffix(text, "ä…") {
			t.Errorf("an error of %d bytes was cut to %d: %q", len(long), len(text), text)
		}
	}
	if fault.Text != long {
		t.Error("what a source gave was changed")
	}
}

// TestKeys: `cleat status` of another version and the web page read these keys.
func TestKeys(t *testing.T) {
	r := reporterOf(kernel.StateReady)
	r.Plugins = func() []Plugin { return []Plugin{{Name: "p", Points: []string{"admission"}, LastFault: &LastTime{}}} }
	r.Addons = func() []Addon { return []Addon{{Name: "x"}} }
	r.Certificates = func(time.Time) []Certificate { return []Certificate{{File: "f", NotAfter: began}} }
	raw, err := json.Marshal(r.Status())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":"0.1.0","kubernetes":"v1.2.3","node":"n1","started_at":"2026-01-02T03:04:05Z","observed_at":"2026-01-02T03:05:05Z",` +
		`"state":"ready","datastore":{"driver":"kine","description":"","shared":false},"units":[{"unit":"a","state":"ready"}],` +
		`"plugins":[{"name":"p","version":"","points":["admission"],"digest":"","state":"","calls":0,"allowed":0,"denied":0,"faults":0,` +
		`"mutations":0,"last_fault":{"at":"0001-01-01T00:00:00Z","text":""}}],` +
		`"addons":[{"name":"x","file":"","state":"","objects":0}],` +
		`"certificates":[{"file":"f","not_after":"2026-01-02T03:04:05Z","days_left":0,"state":""}]}`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	raw, err = json.Marshal(reporterOf().Status())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(raw), `"units":[],"plugins":[],"addons":[],"certificates":[]}`) {
		t.Errorf("nothing is not empty lists: %s", raw)
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.NewAuthority("test-ca", began)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pki.Leaf{CommonName: "admin", Organization: []string{"masters"}, Client: true}
	file := filepath.Join(dir, "admin.crt")
	if _, err := ca.EnsureLeaf(file, filepath.Join(dir, "admin.key"), leaf, began); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.crt")
	if err := os.WriteFile(broken, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory.crt"), 0o700); err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		left  time.Duration
		days  int
		state CertificateState
	}{
		{200 * day, 200, CertificateOK},
		{90 * day, 90, CertificateOK},
		{90*day - time.Second, 89, CertificateWarning},
		{30*day - time.Second, 29, CertificateCritical},
		{time.Second, 0, CertificateCritical},
		{0, 0, CertificateExpired},
		{-3 * day, -3, CertificateExpired},
	} {
		all := ReadCertificates(began.Add(pki.LeafLife-tt.left), filepath.Join(dir, "missing"), dir)
		if len(all) != 2 {
			t.Fatalf("found %+v", all)
		}
		got := all[0]
		if got.File != file || got.Subject != "CN=admin,O=masters" || !got.NotAfter.Equal(began.Add(pki.LeafLife)) ||
			got.DaysLeft != tt.days || got.State != tt.state {
			t.Errorf("%s left: %+v, want %d days, %s", tt.left, got, tt.days, tt.state)
		}
		if bad := all[1]; bad.File != broken || bad.State != CertificateUnreadable || bad.Error == "" {
			t.Errorf("broken: %+v", bad)
		}
	}
}

func TestMetrics(t *testing.T) {
	r := reporterOf(kernel.StateReady, kernel.StateUnhealthy)
	ms := int64(1500)
	units := r.Units
	r.Units = func() []kernel.Status {
		all := units()
		all[0].ReadyAfterMS = &ms
		return all
	}
	r.Addons = func() []Addon { return []Addon{{Name: "x", State: AddonApplied}, {Name: "y", State: AddonFailed}} }
	r.Certificates = func(time.Time) []Certificate {
		return []Certificate{{File: "bad\xff.crt", NotAfter: time.Unix(1000, 0)}, {File: "unreadable.crt"}}
	}
	const want = `
# HELP cleat_addon_applied 1 if the last attempt at the file of the manifests directory succeeded.
# TYPE cleat_addon_applied gauge
cleat_addon_applied{addon="x"} 1
cleat_addon_applied{addon="y"} 0
# HELP cleat_certificate_expiry_timestamp_seconds When a certificate ends.
# TYPE cleat_certificate_expiry_timestamp_seconds gauge
cleat_certificate_expiry_timestamp_seconds{file="bad?.crt"} 1000
# HELP cleat_info 1, with the versions.
# TYPE cleat_info gauge
cleat_info{kubernetes="v1.2.3",version="0.1.0"} 1
# HELP cleat_state 1 for the state the server is in.
# TYPE cleat_state gauge
cleat_state{state="degraded"} 1
cleat_state{state="ready"} 0
cleat_state{state="starting"} 0
cleat_state{state="stopping"} 0
# HELP cleat_unit_ready 1 while the unit is ready.
# TYPE cleat_unit_ready gauge
cleat_unit_ready{unit="a"} 1
cleat_unit_ready{unit="b"} 0
# HELP cleat_unit_ready_seconds Seconds from the start of the unit until it was ready for the first time.
# TYPE cleat_unit_ready_seconds gauge
cleat_unit_ready_seconds{unit="a"} 1.5
`
	if err := testutil.CollectAndCompare(Metrics(r.Status), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
