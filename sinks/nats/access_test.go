package nats_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

const testToken = "t0ken-4f9a1c77/+%"

// key returns a new nkey with its seed.
func key(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public, string(secret)
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWaysToAuthenticate(t *testing.T) {
	_, public, seed := key(t, nkeys.CreateUser)
	_, _, otherSeed := key(t, nkeys.CreateUser)
	withPassword := func(o *server.Options) { o.Username, o.Password = testUser, testPassword }
	withToken := func(o *server.Options) { o.Authorization = testToken }
	inURL := func(user *url.Userinfo) func(*nats.Config) {
		return func(c *nats.Config) { c.URL = strings.Replace(c.URL, "nats://", "nats://"+user.String()+"@", 1) }
	}
	for name, tt := range map[string]struct {
		server       func(*server.Options)
		right, wrong func(*nats.Config)
		secrets      []string
	}{
		"a password": {
			withPassword,
			func(c *nats.Config) { c.User, c.Password = testUser, testPassword },
			func(c *nats.Config) { c.User, c.Password = testUser, "wr0ng-one" }, []string{"wr0ng-one"},
		},
		"a password in the URL": {
			withPassword, inURL(url.UserPassword(testUser, testPassword)), inURL(url.UserPassword(testUser, "wr0ng-one")), []string{"wr0ng-one"},
		},
		"a token":            {withToken, func(c *nats.Config) { c.Token = testToken }, func(c *nats.Config) { c.Token = "wr0ng-one" }, []string{"wr0ng-one"}},
		"a token in the URL": {withToken, inURL(url.User(testToken)), inURL(url.User("wr0ng-one")), []string{"wr0ng-one"}},
		"an nkey": {
			func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} },
			func(c *nats.Config) { c.NKey = seed + "\n" }, func(c *nats.Config) { c.NKey = otherSeed }, []string{otherSeed},
		},
		"nothing": {withToken, func(c *nats.Config) { c.Token = testToken }, func(*nats.Config) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			srv := natstest.Start(t, func(o *server.Options) {
				withoutJetStream(o)
				tt.server(o)
			})
			cfg := nats.Config{URL: srv.URL()}
			tt.right(&cfg)
			mustSend(t, newSink(t, cfg), message(1, "a", "x"))

			cfg = nats.Config{URL: srv.URL()}
			tt.wrong(&cfg)
			s := newSink(t, cfg)
			for range 5 { // the client library alone gives up at the second
				err := send(t.Context(), s, message(1, "a", "x"))
				wantError(t, err, sinks.Retry, "no connection to NATS", "Authorization Violation")
				for _, secret := range tt.secrets {
					if strings.Contains(fmt.Sprintf("%+v %#v", err, err), secret) {
						t.Errorf("%v tells a secret", err)
					}
				}
			}
		})
	}
}

// A credentials file is read for each connection, so that it can be replaced.
func TestACredentialsFile(t *testing.T) {
	operator, operatorID, _ := key(t, nkeys.CreateOperator)
	account, accountID, _ := key(t, nkeys.CreateAccount)
	_, userID, userSeed := key(t, nkeys.CreateUser)
	must := func(token string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	operatorClaims, err := jwt.DecodeOperatorClaims(must(jwt.NewOperatorClaims(operatorID).Encode(operator)))
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(accountID, must(jwt.NewAccountClaims(accountID).Encode(operator))); err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(userID)
	claims.Limits.Payload = 600
	creds, err := jwt.FormatUserConfig(must(claims.Encode(account)), []byte(userSeed))
	if err != nil {
		t.Fatal(err)
	}
	claims.Expires = 1
	expired, err := jwt.FormatUserConfig(must(claims.Encode(account)), []byte(userSeed))
	if err != nil {
		t.Fatal(err)
	}

	srv := natstest.Start(t, func(o *server.Options) {
		withoutJetStream(o)
		o.TrustedOperators, o.AccountResolver = []*jwt.OperatorClaims{operatorClaims}, resolver
	})
	path := write(t, "user.creds", expired)
	s := newSink(t, nats.Config{URL: srv.URL(), CredsFile: path})
	err = send(t.Context(), s, message(1, "a", "x"))
	wantError(t, err, sinks.Retry, "Authorization Violation")
	if strings.Contains(err.Error(), userSeed) {
		t.Errorf("%v tells the seed", err)
	}
	if err := os.WriteFile(path, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	retried(t, s, message(1, "a", "x"))
	// The limit of a user is not that of the server.
	wantError(t, send(t.Context(), s, message(2, "a", strings.Repeat("x", 600))), sinks.Rejected, "takes 600")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	srv.Kick("keyhook")
	eventually(t, func() bool {
		err := send(t.Context(), s, message(3, "a", "x"))
		return err != nil && strings.Contains(err.Error(), "user.creds: no such file")
	})
}

// Acknowledgements need a subject that the user may subscribe to.
func TestTheInboxPrefix(t *testing.T) {
	srv := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: testUser, Password: testPassword, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"closed"}}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_keyhook.>"}},
		}}}
	})
	cfg := nats.Config{URL: srv.URL(), User: testUser, Password: testPassword, JetStream: true}
	wantError(t, send(t.Context(), newSink(t, cfg), message(1, "a", "x")), sinks.Retry, `may not subscribe to "_INBOX.>"`, "inbox_prefix")
	cfg.InboxPrefix = "_INBOX_keyhook"
	s := newSink(t, cfg)
	wantError(t, send(t.Context(), s, message(1, "a", "x")), sinks.Retry, "no stream takes")
	// What is denied is told at once, not after the timeout.
	wantError(t, send(t.Context(), s, message(1, "closed", "x")), sinks.Retry, `does not allow this user to publish to "closed"`)
}

func TestTLS(t *testing.T) {
	mutual, other := natstest.NewTLS(t, true), natstest.NewTLS(t, false)
	secured := natstest.Start(t, func(o *server.Options) {
		withoutJetStream(o)
		o.TLSConfig, o.TLS, o.TLSVerify, o.TLSTimeout = mutual.Server, true, true, 5
	})
	first := natstest.Start(t, func(o *server.Options) {
		withoutJetStream(o)
		o.TLSConfig, o.TLS, o.TLSHandshakeFirst, o.TLSTimeout = other.Server, true, true, 5
	})
	plain := natstest.Start(t, withoutJetStream)
	both := &nats.TLS{CAFile: mutual.CAFile, CertFile: mutual.CertFile, KeyFile: mutual.KeyFile}
	for name, tt := range map[string]struct {
		url  string
		tls  *nats.TLS
		want string // an error; "" if it works
	}{
		"both certificates":     {secured.URL(), both, ""},
		"by its scheme":         {strings.Replace(secured.URL(), "nats://", "tls://", 1), both, ""},
		"no certificate":        {secured.URL(), &nats.TLS{CAFile: mutual.CAFile}, "tls"},
		"another authority":     {secured.URL(), &nats.TLS{CAFile: other.CAFile}, "unknown authority"},
		"nothing said":          {secured.URL(), nil, "unknown authority"},
		"TLS before all":        {first.URL(), &nats.TLS{CAFile: other.CAFile, HandshakeFirst: true}, ""},
		"a server without":      {plain.URL(), &nats.TLS{}, "secure connection not available"},
		"a scheme but without":  {strings.Replace(plain.URL(), "nats://", "tls://", 1), nil, "secure connection not available"},
		"neither is asked for":  {plain.URL(), nil, ""},
		"a name it is not for":  {strings.Replace(secured.URL(), "127.0.0.1", "localhost", 1), both, "localhost"},
		"the wrong certificate": {secured.URL(), &nats.TLS{CAFile: mutual.CAFile, CertFile: other.CertFile, KeyFile: other.KeyFile}, "tls"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink(t, nats.Config{URL: tt.url, TLS: tt.tls})
			err := send(t.Context(), s, message(1, "a", "x"))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, sinks.Retry, "no connection to NATS", tt.want)
		})
	}
}
