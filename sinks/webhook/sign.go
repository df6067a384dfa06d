package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"
)

const (
	symmetricPrefix  = "whsec_"
	asymmetricPrefix = "whsk_"
	secretHint       = `make one with: echo "whsec_$(openssl rand -base64 32)"`
)

// signingKey adds one signature to the value of webhook-signature.
type signingKey interface {
	sign(dst []byte, id, timestamp string, body []byte) []byte
}

// parseKey reads a secret as Standard Webhooks writes it. Its errors do not
// hold any part of the secret, and read on from the name of its field.
func parseKey(secret string) (signingKey, error) {
	secret = strings.TrimSpace(secret)
	if enc, ok := strings.CutPrefix(secret, symmetricPrefix); ok {
		key, err := base64.StdEncoding.DecodeString(enc)
		switch {
		case err != nil:
			return nil, errors.New("is not base64 behind whsec_")
		case len(key) < 24 || len(key) > 64:
			return nil, fmt.Errorf("has %d bytes, not 24 to 64", len(key))
		}
		return &hmacKey{key: key}, nil
	}
	if enc, ok := strings.CutPrefix(secret, asymmetricPrefix); ok {
		key, err := base64.StdEncoding.DecodeString(enc)
		if err != nil {
			return nil, errors.New("is not base64 behind whsk_")
		}
		switch len(key) {
		case ed25519.SeedSize:
			return ed25519Key(ed25519.NewKeyFromSeed(key)), nil
		case ed25519.PrivateKeySize:
			private := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])
			if !private.Equal(ed25519.PrivateKey(key)) {
				return nil, errors.New("holds two halves of an ed25519 key that do not belong together")
			}
			return ed25519Key(private), nil
		}
		return nil, fmt.Errorf("is an ed25519 key of %d bytes, not 64 (or 32)", len(key))
	}
	switch {
	case secret == "":
		return nil, errors.New("is empty")
	case strings.HasPrefix(secret, "whpk_"):
		return nil, errors.New("is a public key; whsk_ begins the private one")
	}
	return nil, errors.New("must begin with whsec_ (or whsk_ for ed25519)")
}

type hmacKey struct {
	key    []byte
	hashes sync.Pool // of hash.Hash, keyed: keying costs as much as a short body
}

func (k *hmacKey) sign(dst []byte, id, timestamp string, body []byte) []byte {
	h, ok := k.hashes.Get().(hash.Hash)
	if !ok {
		h = hmac.New(sha256.New, k.key)
	}
	defer k.hashes.Put(h)
	h.Reset()
	// A hash's Write never fails.
	_, _ = h.Write(fmt.Appendf(nil, "%s.%s.", id, timestamp))
	_, _ = h.Write(body)
	var sum [sha256.Size]byte
	dst = append(dst, "v1,"...)
	return base64.StdEncoding.AppendEncode(dst, h.Sum(sum[:0]))
}

type ed25519Key ed25519.PrivateKey

func (k ed25519Key) sign(dst []byte, id, timestamp string, body []byte) []byte {
	message := append(fmt.Appendf(nil, "%s.%s.", id, timestamp), body...)
	dst = append(dst, "v1a,"...)
	return base64.StdEncoding.AppendEncode(dst, ed25519.Sign(ed25519.PrivateKey(k), message))
}

// sign returns one signature for each secret, separated by spaces.
func (s *Sink) sign(id, timestamp string, body []byte) string {
	dst := make([]byte, 0, 96*len(s.keys))
	for i, k := range s.keys {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = k.sign(dst, id, timestamp, body)
	}
	return string(dst)
}

func timestamp(unix int64) string { return strconv.FormatInt(unix, 10) }
