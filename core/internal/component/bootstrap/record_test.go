package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

func sealed(t testing.TB) (record []byte, id *pki.Identity) {
	t.Helper()
	id, err := pki.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if record, err = seal(id, "password", minRounds); err != nil {
		t.Fatal(err)
	}
	return record, id
}

func TestSealOpen(t *testing.T) {
	record, id := sealed(t)
	got, err := open(record, "password")
	if err != nil || !reflect.DeepEqual(got.Files(), id.Files()) {
		t.Fatalf("opened differently: %v", err)
	}
	if _, err := open(record, "Password"); !errors.Is(err, errSealed) {
		t.Errorf("another password: %v", err)
	}
	if again, _ := seal(id, "password", minRounds); bytes.Equal(again, record) {
		t.Error("two seals are equal: salt or nonce is not random")
	}
	if bytes.Contains(record, []byte("PRIVATE")) {
		t.Error("the record shows a key")
	}
}

// Every part is authenticated, the readable header included.
func TestChangedRecordsDoNotOpen(t *testing.T) {
	record, _ := sealed(t)
	for name, change := range map[string]func(*envelope){
		"rounds": func(e *envelope) { e.Rounds++ },
		"salt":   func(e *envelope) { e.Salt[0] ^= 1 },
		"nonce":  func(e *envelope) { e.Nonce[0] ^= 1 },
		"data":   func(e *envelope) { e.Data[len(e.Data)/2] ^= 1 },
		"cut":    func(e *envelope) { e.Data = e.Data[:8] },
	} {
		var env envelope
		if err := json.Unmarshal(record, &env); err != nil {
			t.Fatal(err)
		}
		change(&env)
		bad, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(bad, "password"); !errors.Is(err, errSealed) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func FuzzParseEnvelope(f *testing.F) {
	record, _ := sealed(f)
	f.Add(record)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		env, err := parseEnvelope(record)
		if err == nil && (env.Rounds > maxRounds || len(env.Nonce) != 12) {
			t.Fatalf("accepted %+v", env)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	id, err := pki.NewIdentity(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	record, err := seal(id, "password", kdfRounds)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := open(record, "password"); err != nil {
			b.Fatal(err)
		}
	}
}
