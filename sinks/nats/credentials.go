package nats

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// load returns the files as they are now. Its errors are of type [*FieldError].
func (t *TLS) load() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, &FieldError{Field: "tls.ca_file", Message: "cannot be read: " + t.CAFile + ": " + reason(err)}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &FieldError{Field: "tls.ca_file", Message: "holds no certificate: " + t.CAFile, Hint: "it must hold PEM blocks of type CERTIFICATE"}
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, &FieldError{Field: "tls.cert_file", Message: "needs a key_file, and a key_file needs it"}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, &FieldError{Field: "tls.cert_file", Message: "cannot be used with its key_file: " + reason(err)}
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// readCreds returns a file with a user's JWT and seed, as it is now. What its
// errors say of the content is that it is not usable.
func readCreds(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.New("cannot be read: " + path + ": " + reason(err))
	}
	if _, err := nkeys.ParseDecoratedJWT(data); err != nil {
		return nil, errors.New("holds no JWT: " + path)
	}
	if _, err := nkeys.ParseDecoratedUserNKey(data); err != nil {
		return nil, errors.New("holds no seed of a user: " + path)
	}
	return data, nil
}

// reason is what is wrong with a file, without its path.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// authenticate returns the options that say who the sink is.
func (c *Config) authenticate() ([]natsgo.Option, error) {
	switch {
	case c.User != "":
		return []natsgo.Option{natsgo.UserInfo(c.User, c.Password)}, nil
	case c.Token != "":
		return []natsgo.Option{natsgo.Token(c.Token)}, nil
	case c.NKey != "":
		key, err := userKey(c.NKey)
		if err != nil {
			return nil, errors.New("nkey is not the seed of a user")
		}
		public, err := key.PublicKey()
		if err != nil {
			return nil, errors.New("nkey is not the seed of a user")
		}
		return []natsgo.Option{natsgo.Nkey(public, key.Sign)}, nil
	case c.CredsFile != "":
		data, err := readCreds(c.CredsFile)
		if err != nil {
			return nil, fmt.Errorf("creds_file %w", err)
		}
		return []natsgo.Option{natsgo.UserCredentialBytes(data)}, nil
	}
	return nil, nil
}
