package natstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "natstest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path("ca.pem"), "CERTIFICATE", der)
	for i, name := range []string{"server", "client"} {
		leaf := newKey(t)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}, ca, &leaf.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, path(name+".pem"), "CERTIFICATE", der)
		private, err := x509.MarshalPKCS8PrivateKey(leaf)
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, path(name+"-key.pem"), "PRIVATE KEY", private)
	}
	pair, err := tls.LoadX509KeyPair(path("server.pem"), path("server-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: x509.NewCertPool()}
	cfg.ClientCAs.AddCert(ca)
	if verify {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return &TLS{CAFile: path("ca.pem"), CertFile: path("client.pem"), KeyFile: path("client-key.pem"), Server: cfg}
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
