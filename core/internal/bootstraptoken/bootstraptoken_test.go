package bootstraptoken

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/internal/token"
)

func example(now time.Time) Token {
	return Token{
		ID: "abcdef", Secret: "0123456789abcdef", Description: "for the rack", Expires: now.Add(time.Hour).Truncate(time.Second).UTC(),
		Usages: []string{"signing", "authentication"}, Groups: []string{"system:bootstrappers:cleat:default-node-token"},
	}
}

func TestCreateListDelete(t *testing.T) {
	now, client := time.Now(), fake.NewClientset()
	want := example(now)
	if err := Create(t.Context(), client, want); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), client, want); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("twice: %v", err)
	}
	forever := Token{ID: "aaaaaa", Secret: "0123456789abcdef", Usages: []string{"authentication"}}
	if err := Create(t.Context(), client, forever); err != nil {
		t.Fatal(err)
	}
	all, err := List(t.Context(), client)
	if err != nil || !reflect.DeepEqual(all, []Token{forever, want}) {
		t.Errorf("%+v, %v", all, err)
	}
	if err := Delete(t.Context(), client, "abcdef"); err != nil {
		t.Error(err)
	}
	if err := Delete(t.Context(), client, "abcdef"); err == nil || !strings.Contains(err.Error(), "no bootstrap token abcdef") {
		t.Errorf("twice: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*Token){
		"<6>.<16>":           func(t *Token) { t.ID = "Abcdef" },
		"lower-case":         func(t *Token) { t.Secret = "short" },
		"at least one":       func(t *Token) { t.Usages = nil },
		"usages":             func(t *Token) { t.Usages = []string{"everything"} },
		"groups":             func(t *Token) { t.Groups = []string{"system:masters"} },
		"at most 1024":       func(t *Token) { t.Description = strings.Repeat("x", 1025) },
		"bootstrap group \"": func(t *Token) { t.Groups = []string{"system:bootstrappers:a,system:masters"} },
	} {
		bad := example(time.Now())
		change(&bad)
		if err := Create(t.Context(), fake.NewClientset(), bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		} else if strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestLookup(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		change          func(*corev1.Secret)
		secret, refusal string
	}{
		"good":            {func(*corev1.Secret) {}, "0123456789abcdef", ""},
		"for ever":        {func(s *corev1.Secret) { delete(s.Data, "expiration") }, "0123456789abcdef", ""},
		"expired":         {func(s *corev1.Secret) { s.Data["expiration"] = []byte("2001-02-03T04:05:06Z") }, "0123456789abcdef", "expired at 2001-02-03T04:05:06Z"},
		"no time":         {func(s *corev1.Secret) { s.Data["expiration"] = []byte("tomorrow") }, "0123456789abcdef", "expired"},
		"not for this":    {func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") }, "0123456789abcdef", "not for authentication"},
		"nearly true":     {func(s *corev1.Secret) { s.Data["usage-bootstrap-authentication"] = []byte("True") }, "0123456789abcdef", "not for authentication"},
		"other type":      {func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, "", ""},
		"other id":        {func(s *corev1.Secret) { s.Data["token-id"] = []byte("ghijkl") }, "", ""},
		"short secret":    {func(s *corev1.Secret) { s.Data["token-secret"] = []byte("0") }, "", ""},
		"no secret":       {func(s *corev1.Secret) { s.Data = nil }, "", ""},
		"being deleted":   {func(s *corev1.Secret) { s.DeletionTimestamp, s.Finalizers = &metav1.Time{Time: now}, []string{"x/y"} }, "", ""},
		"other name":      {func(s *corev1.Secret) { s.Name = "bootstrap-token-ghijkl" }, "", ""},
		"other namespace": {func(s *corev1.Secret) { s.Namespace = "default" }, "", ""},
	} {
		s := example(now).object()
		c.change(s)
		secret, refusal, err := Lookup(t.Context(), fake.NewClientset(s), "abcdef", now)
		if err != nil || secret != c.secret || !strings.Contains(refusal, c.refusal) || (refusal == "") != (c.refusal == "") {
			t.Errorf("%s: %q, %q, %v", name, secret, refusal, err)
		}
	}
	// To the second.
	client := fake.NewClientset(example(now).object())
	end := example(now).Expires
	for at, want := range map[time.Time]bool{end.Add(-time.Second): true, end: false} {
		if _, refusal, err := Lookup(t.Context(), client, "abcdef", at); (refusal == "") != want || err != nil {
			t.Errorf("at %v: %q, %v", at, refusal, err)
		}
	}
}

func TestGenerate(t *testing.T) {
	a, secretA, err := Generate()
	b, secretB, err2 := Generate()
	if err != nil || err2 != nil || a == b || secretA == secretB || !token.IsBootstrap(a, secretA) {
		t.Errorf("%q and %q, %v, %v", a, b, err, err2)
	}
}

// Whoever may write Secrets writes what they like into one.
func FuzzRead(f *testing.F) {
	now := time.Now()
	f.Add("abcdef", "0123456789abcdef", "2030-01-02T03:04:05Z", "system:bootstrappers:x", "true")
	f.Add("abcdef", "0123456789abcdef", "soon", ",", "")
	f.Fuzz(func(t *testing.T, id, secret, expires, groups, usage string) {
		s := example(now).object()
		for key, value := range map[string]string{
			"token-id": id, "token-secret": secret, "expiration": expires, "auth-extra-groups": groups, "usage-bootstrap-authentication": usage,
		} {
			s.Data[key] = []byte(value)
		}
		got, ok := read(s)
		if ok && (got.ID != "abcdef" || !token.IsBootstrap(got.ID, got.Secret)) {
			t.Fatalf("read %+v", got)
		}
		if ok && got.refusal(now) == "" && (usage != "true" || expires != "" && !got.Expires.After(now)) {
			t.Fatalf("%+v joins", got)
		}
	})
}
