package nats_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"keyhook/internal/natstest"
	"keyhook/sinks/nats"
)

func TestMistakesInAConfiguration(t *testing.T) {
	const server = "nats://h:1"
	authority := natstest.NewTLS(t, false)
	_, accountID, accountSeed := key(t, nkeys.CreateAccount)
	garbage := write(t, "user.creds", []byte("tops"))
	for name, tt := range map[string]struct {
		cfg  nats.Config
		want string
	}{
		"no url":             {nats.Config{}, "url: is missing"},
		"no scheme":          {nats.Config{URL: "h:4222"}, "url: must begin with nats:// or tls://"},
		"another scheme":     {nats.Config{URL: "http://h"}, "url: must begin with nats:// or tls://"},
		"no host":            {nats.Config{URL: "nats://"}, "url: has no host"},
		"an empty server":    {nats.Config{URL: server + ","}, "url: must begin with"},
		"a raw password":     {nats.Config{URL: "nats://jo:tops/ecret@h"}, "url: is not a valid URL"},
		"a path":             {nats.Config{URL: server + "/tops"}, "url: must end with the host"},
		"a query":            {nats.Config{URL: server + "?tops"}, "url: must end with the host"},
		"port 0":             {nats.Config{URL: "nats://h:0"}, "url: port 0 is not between 1 and 65535"},
		"no port":            {nats.Config{URL: "nats://h:"}, "url: has an empty port"},
		"two users":          {nats.Config{URL: "nats://a:tops@h,nats://b:tops@i"}, "url: names different users"},
		"a user too many":    {nats.Config{URL: "nats://a:tops@h", Token: "tops"}, "url: names a user, and so does another field"},
		"two ways":           {nats.Config{URL: server, User: "a", Password: "tops", Token: "tops"}, "token: does not go with user"},
		"no password":        {nats.Config{URL: server, User: "tops"}, "user: has no password"},
		"no user":            {nats.Config{URL: server, Password: "tops"}, "password: has no user"},
		"a bad seed":         {nats.Config{URL: server, NKey: "SUtops"}, "nkey: is not the seed of a user"},
		"an account's seed":  {nats.Config{URL: server, NKey: accountSeed}, "nkey: is not the seed of a user"},
		"a public key":       {nats.Config{URL: server, NKey: accountID}, "nkey: is not the seed of a user"},
		"no credentials":     {nats.Config{URL: server, CredsFile: "/nowhere"}, "creds_file: cannot be read: /nowhere: no such file"},
		"bad credentials":    {nats.Config{URL: server, CredsFile: garbage}, "creds_file: holds no"},
		"no CA":              {nats.Config{URL: server, TLS: &nats.TLS{CAFile: "/nowhere"}}, "tls.ca_file: cannot be read: /nowhere: no such file"},
		"a CA that is none":  {nats.Config{URL: server, TLS: &nats.TLS{CAFile: authority.KeyFile}}, "holds no certificate"},
		"half a certificate": {nats.Config{URL: server, TLS: &nats.TLS{CertFile: authority.CertFile}}, "tls.cert_file: needs a key_file"},
		"a bad certificate":  {nats.Config{URL: server, TLS: &nats.TLS{CertFile: authority.CertFile, KeyFile: authority.CAFile}}, "tls.cert_file: cannot be used with its key_file"},
		"two modes":          {nats.Config{URL: server, JetStream: true, Request: true}, "request: does not go with jetstream"},
		"a stream of none":   {nats.Config{URL: server, Stream: "A"}, "stream: is for JetStream only"},
		"a stream's name":    {nats.Config{URL: server, JetStream: true, Stream: "A.B"}, `stream: "A.B" cannot be the name`},
		"a prefix":           {nats.Config{URL: server, InboxPrefix: "a.*"}, `inbox_prefix: "a.*" cannot be the beginning`},
		"a long prefix":      {nats.Config{URL: server, InboxPrefix: strings.Repeat("a", 129)}, "inbox_prefix: is longer than 128 bytes"},
		"a timeout":          {nats.Config{URL: server, Timeout: -time.Second}, "timeout: -1s is negative"},
		"a bound":            {nats.Config{URL: server, MaxPending: -1}, "max_pending: -1 is negative"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := nats.New(tt.cfg)
			if s != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one mistake: %v", err)
			}
			var field *nats.FieldError
			if !errors.As(err, &field) {
				t.Fatalf("%v is no FieldError", err)
			}
			for _, secret := range []string{"tops", "ecret", accountSeed} {
				if strings.Contains(fmt.Sprintf("%+v %s", err, field.Hint), secret) {
					t.Errorf("%v tells %q", err, secret)
				}
			}
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := nats.New(nats.Config{URL: "ftp://h/", Timeout: -1, NKey: "x", Stream: "A"})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v", err)
	}
	var fields []string
	for _, err := range joined.Unwrap() {
		var field *nats.FieldError
		if !errors.As(err, &field) {
			t.Fatalf("%v is no FieldError", err)
		}
		fields = append(fields, field.Field)
	}
	if want := []string{"url", "nkey", "stream", "timeout"}; !slices.Equal(fields, want) {
		t.Errorf("mistakes in %v, want %v", fields, want)
	}
}

// Nothing is connected to, nor looked up, before there is something to deliver.
func TestNewMakesNoConnection(t *testing.T) {
	for _, url := range []string{"nats://nowhere.invalid", "tls://[::1]:4222", "nats://a:b@h,nats://i:4223, nats://j"} {
		s, err := nats.New(nats.Config{URL: url})
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
