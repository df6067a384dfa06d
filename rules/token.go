package rules

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

const (
	maxTokenBytes = 512
	maxTokens     = 32
)

// natsToken turns a key into the tail of a NATS subject, so that different keys
// become different subjects: the key is split at "/"; in each part letters,
// digits, "_", "=" and "-" stay, other bytes become %XX, and an empty part
// becomes "%". A key that would be too long for a subject becomes "%h." and a
// hash.
func natsToken(key string) string {
	const hexDigits = "0123456789ABCDEF"
	if strings.Count(key, "/") >= maxTokens {
		return hashToken(key)
	}
	b := make([]byte, 0, len(key)+8)
	empty := true
	for i := range len(key) {
		c := key[i]
		switch {
		case c == '/':
			if empty {
				b = append(b, '%')
			}
			b = append(b, '.')
			empty = true
			continue
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '=', c == '-':
			b = append(b, c)
		default:
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
		empty = false
		if len(b) > maxTokenBytes {
			return hashToken(key)
		}
	}
	if empty {
		b = append(b, '%')
	}
	if len(b) > maxTokenBytes {
		return hashToken(key)
	}
	return string(b)
}

func hashToken(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "%h." + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}
