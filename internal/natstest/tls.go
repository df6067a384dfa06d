package natstest

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"keyhook/internal/certtest"
)

// TLS is an authority of its own with two certificates, as PEM files.
type TLS struct {
	CAFile            string
	CertFile, KeyFile string // of a client
	Server            *tls.Config
}

// NewTLS makes an authority. Its server, 127.0.0.1, asks for certificates of
// clients if these are to be verified.
func NewTLS(t testing.TB, verify bool) *TLS {
	t.Helper()
	authority := certtest.New(t, "natstest")
	pair, err := tls.X509KeyPair(authority.Issue("server"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: x509.NewCertPool()}
	cfg.ClientCAs.AppendCertsFromPEM(authority.PEM())
	if verify {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := authority.Issue("client")
	return &TLS{
		CAFile: file("ca.pem", authority.PEM()), CertFile: file("client.pem", cert), KeyFile: file("client-key.pem", key), Server: cfg,
	}
}
