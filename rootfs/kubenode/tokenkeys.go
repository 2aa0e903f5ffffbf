package main

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"gopkg.in/go-jose/go-jose.v2/jwt"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"gateway.local/kubenode/internal/layout"
	"gateway.local/kubenode/internal/pki"
)

const (
	tokenKeySocket  = layout.RunDir + "/token-key.sock"
	tokenKeyTimeout = 20 * time.Second
	maxTokenKey     = 64 << 10
)

// tokenKeys signs service account tokens for the API server and gives it the keys that verify them. The key that signs is
// the only one in the issuer's public set, so that a service that asks there (OpenID Connect) trusts this cluster's tokens
// and not those of a cluster whose memory it was cloned from; the API server itself goes on taking what its pods hold.
type tokenKeys struct {
	path, issuer string

	mu        sync.Mutex
	signer    serviceaccount.TokenGenerator
	public    []serviceaccount.PublicKey
	listeners []serviceaccount.Listener
}

func newTokenKeys(path, issuer string) (*tokenKeys, error) {
	keys, err := pki.EnsureTokenKeys(path)
	if err != nil {
		return nil, fmt.Errorf("cannot use the keys of service account tokens: %w", err)
	}
	k := &tokenKeys{path: path, issuer: issuer}
	return k, k.use(keys)
}

// use takes keys over; the first one signs.
func (k *tokenKeys) use(keys []crypto.Signer) error {
	signer, err := serviceaccount.JWTTokenGenerator(k.issuer, keys[0])
	if err != nil {
		return err
	}
	all := make([]any, len(keys))
	for i, key := range keys {
		all[i] = key.Public()
	}
	// It knows how Kubernetes names a key.
	static, err := serviceaccount.StaticPublicKeysGetter(all)
	if err != nil {
		return err
	}
	public := append([]serviceaccount.PublicKey{}, static.GetPublicKeys(context.Background(), "")...)
	for i := 1; i < len(public); i++ {
		public[i].ExcludeFromOIDCDiscovery = true
	}
	k.mu.Lock()
	k.signer, k.public = signer, public
	listeners := append([]serviceaccount.Listener{}, k.listeners...)
	k.mu.Unlock()
	for _, listener := range listeners {
		listener.Enqueue()
	}
	return nil
}

// replace makes the key in text the one that signs, in the file first.
func (k *tokenKeys) replace(text []byte) error {
	keys, err := pki.AddTokenKey(k.path, text)
	if err != nil {
		return err
	}
	return k.use(keys)
}

// GenerateToken signs a token with the first key.
func (k *tokenKeys) GenerateToken(ctx context.Context, claims *jwt.Claims, private any) (string, error) {
	k.mu.Lock()
	signer := k.signer
	k.mu.Unlock()
	return signer.GenerateToken(ctx, claims, private)
}

// AddListener is told of each change.
func (k *tokenKeys) AddListener(listener serviceaccount.Listener) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listeners = append(k.listeners, listener)
}

// GetCacheAgeMaxSeconds is none: a new key signs at once.
func (k *tokenKeys) GetCacheAgeMaxSeconds() int { return 0 }

// GetPublicKeys gives the keys of that name, or all.
func (k *tokenKeys) GetPublicKeys(_ context.Context, id string) []serviceaccount.PublicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id == "" {
		return k.public
	}
	var found []serviceaccount.PublicKey
	for _, key := range k.public {
		if key.KeyID == id {
			found = append(found, key)
		}
	}
	return found
}

// serve lets the guest's agent replace the key that signs: one connection carries a key, and its answer.
func (k *tokenKeys) serve() error {
	return serveSocket("token-key", tokenKeySocket, k.answer)
}

func (k *tokenKeys) answer(client net.Conn) {
	_ = client.SetDeadline(time.Now().Add(tokenKeyTimeout))
	text, err := io.ReadAll(io.LimitReader(client, maxTokenKey))
	if err == nil {
		err = k.replace(text)
	}
	if err != nil {
		fmt.Fprintln(client, err)
		return
	}
	fmt.Fprintln(client, "replaced")
}
