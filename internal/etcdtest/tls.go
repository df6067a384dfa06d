package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TLS names the PEM files that a client needs.
type TLS struct {
	CAFile   string
	CertFile string
	KeyFile  string

	serverCert, serverKey string

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
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
	f.key = newKey(f.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcdtest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &f.key.PublicKey, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	if f.cert, err = x509.ParseCertificate(der); err != nil {
		f.t.Fatal(err)
	}
	writePEM(f.t, f.CAFile, "CERTIFICATE", der)
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
	key := newKey(f.t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		f.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}, f.cert, &key.PublicKey, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	writePEM(f.t, certFile, "CERTIFICATE", der)
	bytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.t.Fatal(err)
	}
	writePEM(f.t, keyFile, "PRIVATE KEY", bytes)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
