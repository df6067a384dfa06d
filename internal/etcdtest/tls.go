package etcdtest

import (
	"os"
	"path/filepath"
	"testing"

	"keyhook/internal/certtest"
)

// TLS names the PEM files that a client needs.
type TLS struct {
	CAFile   string
	CertFile string
	KeyFile  string

	serverCert, serverKey string

	t         testing.TB
	authority *certtest.Authority
}

func newTLS(t testing.TB, dir string) *TLS {
	t.Helper()
	path := func(name string) string { return filepath.Join(dir, name) }
	f := &TLS{
		CAFile: path("ca.pem"), CertFile: path("client.pem"), KeyFile: path("client-key.pem"),
		serverCert: path("server.pem"), serverKey: path("server-key.pem"), t: t,
	}
	f.RotateAll()
	return f
}

// RotateAll replaces the authority, and the certificates of both sides. A server
// takes its own when it is started again.
func (f *TLS) RotateAll() {
	f.t.Helper()
	f.authority = certtest.New(f.t, "etcdtest")
	f.write(f.CAFile, f.authority.PEM())
	f.issue("server", f.serverCert, f.serverKey)
	f.RotateClient()
}

// RotateClient replaces the client's certificate and key.
func (f *TLS) RotateClient() {
	f.t.Helper()
	f.issue("client", f.CertFile, f.KeyFile)
}

func (f *TLS) issue(name, certFile, keyFile string) {
	f.t.Helper()
	cert, key := f.authority.Issue(name, "localhost")
	f.write(certFile, cert)
	f.write(keyFile, key)
}

func (f *TLS) write(path string, content []byte) {
	f.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		f.t.Fatal(err)
	}
}
