// Package bootstraptoken reads and writes bootstrap tokens as kubeadm knows them:
// Secrets of type bootstrap.kubernetes.io/token in kube-system, which the API server
// takes for authentication and the controller manager removes when they have ended.
package bootstraptoken

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
	bootstrapsecrets "k8s.io/cluster-bootstrap/util/secrets"

	"github.com/cleat-dev/cleat/core/internal/token"
)

// Token is a bootstrap token: a Secret's content.
type Token struct {
	ID, Secret  string
	Description string
	Expires     time.Time // zero: never
	Usages      []string  // of "signing" and "authentication"; only with the latter it joins nodes
	Groups      []string  // beside system:bootstrappers, below which they all are
}

// maxDescription bounds what is kept beside a token.
const maxDescription = 1024

// Generate makes the random parts of a token: 36 and 82 bits.
func Generate() (id, secret string, err error) {
	text, err := bootstraputil.GenerateBootstrapToken()
	if err != nil {
		return "", "", err
	}
	id, secret, _ = strings.Cut(text, ".")
	return id, secret, nil
}

// Check says what is wrong with a token that is to be made.
func (t Token) Check() error {
	if !token.IsBootstrap(t.ID, t.Secret) {
		return errors.New("want <6>.<16> lower-case letters and digits")
	}
	if len(t.Description) > maxDescription {
		return fmt.Errorf("description: %d bytes, want at most %d", len(t.Description), maxDescription)
	}
	if len(t.Usages) == 0 {
		return fmt.Errorf("usages: want at least one of %s", strings.Join(bootstrapapi.KnownTokenUsages, ", "))
	}
	if err := bootstraputil.ValidateUsages(t.Usages); err != nil {
		return fmt.Errorf("usages: %w", err)
	}
	for _, g := range t.Groups {
		if err := bootstraputil.ValidateBootstrapGroupName(g); err != nil {
			return fmt.Errorf("groups: %w", err)
		}
	}
	return nil
}

// object is the token as it is stored.
func (t Token) object() *corev1.Secret {
	data := map[string][]byte{
		bootstrapapi.BootstrapTokenIDKey:     []byte(t.ID),
		bootstrapapi.BootstrapTokenSecretKey: []byte(t.Secret),
	}
	set := func(key, value string) {
		if value != "" {
			data[key] = []byte(value)
		}
	}
	set(bootstrapapi.BootstrapTokenDescriptionKey, t.Description)
	set(bootstrapapi.BootstrapTokenExtraGroupsKey, strings.Join(t.Groups, ","))
	if !t.Expires.IsZero() {
		set(bootstrapapi.BootstrapTokenExpirationKey, t.Expires.UTC().Format(time.RFC3339))
	}
	for _, u := range t.Usages {
		set(bootstrapapi.BootstrapTokenUsagePrefix+u, "true")
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: bootstraputil.BootstrapTokenSecretName(t.ID)},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		Data:       data,
	}
}

// read is the opposite of object. An expiration that is no time has passed.
func read(s *corev1.Secret) (Token, bool) {
	get := func(key string) string { return bootstrapsecrets.GetData(s, key) }
	t := Token{
		ID: get(bootstrapapi.BootstrapTokenIDKey), Secret: get(bootstrapapi.BootstrapTokenSecretKey),
		Description: get(bootstrapapi.BootstrapTokenDescriptionKey),
	}
	if s.Type != bootstrapapi.SecretTypeBootstrapToken || s.DeletionTimestamp != nil ||
		!token.IsBootstrap(t.ID, t.Secret) || s.Name != bootstraputil.BootstrapTokenSecretName(t.ID) {
		return Token{}, false
	}
	if text := get(bootstrapapi.BootstrapTokenExpirationKey); text != "" {
		var err error
		if t.Expires, err = time.Parse(time.RFC3339, text); err != nil {
			t.Expires = time.Unix(0, 0)
		}
	}
	for _, u := range bootstrapapi.KnownTokenUsages {
		if get(bootstrapapi.BootstrapTokenUsagePrefix+u) == "true" {
			t.Usages = append(t.Usages, u)
		}
	}
	if groups := get(bootstrapapi.BootstrapTokenExtraGroupsKey); groups != "" {
		t.Groups = strings.Split(groups, ",")
	}
	return t, true
}

// refusal says why the token joins no node, "" if it does.
func (t Token) refusal(now time.Time) string {
	switch {
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return fmt.Sprintf("bootstrap token %s expired at %s", t.ID, t.Expires.UTC().Format(time.RFC3339))
	case !slices.Contains(t.Usages, "authentication"):
		return fmt.Sprintf("bootstrap token %s is not for authentication: make one with --usages authentication", t.ID)
	}
	return ""
}

// Lookup gives the secret of the token called id, "" if there is none, and why it
// joins no node, "" if it does. An error says that the cluster cannot be asked.
func Lookup(ctx context.Context, client kubernetes.Interface, id string, now time.Time) (secret, refusal string, err error) {
	s, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, bootstraputil.BootstrapTokenSecretName(id), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	t, ok := read(s)
	if !ok {
		return "", "", nil
	}
	return t.Secret, t.refusal(now), nil
}

// Create stores a token.
func Create(ctx context.Context, client kubernetes.Interface, t Token) error {
	if err := t.Check(); err != nil {
		return err
	}
	_, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, t.object(), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("there is a bootstrap token %s already: delete it, or choose another", t.ID)
	}
	return err
}

// List gives all tokens by id.
func List(ctx context.Context, client kubernetes.Interface) ([]Token, error) {
	all, err := client.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("type", string(bootstrapapi.SecretTypeBootstrapToken)).String(),
	})
	if err != nil {
		return nil, err
	}
	var out []Token
	for i := range all.Items {
		if t, ok := read(&all.Items[i]); ok {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Token) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Delete removes the token called id.
func Delete(ctx context.Context, client kubernetes.Interface, id string) error {
	err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, bootstraputil.BootstrapTokenSecretName(id), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no bootstrap token %s: `cleat token list` shows those there are", id)
	}
	return err
}
