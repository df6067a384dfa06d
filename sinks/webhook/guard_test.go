package webhook_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"keyhook/internal/inbox"
	"keyhook/sinks"
	"keyhook/sinks/webhook"
)

func TestRefusedAddresses(t *testing.T) {
	for address, refused := range map[string]bool{
		"169.254.169.254":            true,
		"169.254.0.1":                true,
		"169.254.170.2":              true, // credentials of containers
		"100.100.100.200":            true,
		"168.63.129.16":              true,
		"192.0.0.192":                true,
		"fe80::1":                    true,
		"febf::1":                    true,
		"fd00:ec2::254":              true,
		"fd20:ce::254":               true,
		"::ffff:169.254.169.254":     true,
		"::ffff:100.100.100.200":     true,
		"::169.254.169.254":          true,
		"64:ff9b::a9fe:a9fe":         true,
		"64:ff9b:1::100.100.100.200": true,
		"2002:a9fe:a9fe::1":          true,
		"ff02::1":                    true,
		"224.0.0.1":                  true,
		"127.0.0.1":                  false,
		"::1":                        false,
		"0.0.0.0":                    false,
		"10.1.2.3":                   false,
		"192.168.0.1":                false,
		"100.64.0.1":                 false,
		"169.253.255.255":            false,
		"169.255.0.0":                false,
		"fec0::1":                    false,
		"fd00::1":                    false,
		"2001:db8::1":                false,
		"64:ff9b::808:808":           false,
		"2002:808:808::1":            false,
		"::ffff:8.8.8.8":             false,
		"8.8.8.8":                    false,
	} {
		err := webhook.CheckAddr(netip.MustParseAddr(address))
		if (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && !strings.Contains(err.Error(), "is refused") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A name may lead anywhere, and elsewhere the next time: what counts is the
// address that the connection goes to.
func TestNamesAreCheckedAtEachConnection(t *testing.T) {
	box := inbox.New(inbox.Config{})
	server := httptest.NewServer(box)
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	names := &nameServer{}
	s := newSink(t, webhook.Config{
		URL: "http://rebind.example.com:" + port + "/in?token=query-secret", Timeout: time.Minute, Resolver: names.resolver(t),
	})
	names.answer("127.0.0.1")
	if err := send(t.Context(), s, message("x")); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"169.254.169.254", "100.100.100.200", "fe80::1", "::ffff:169.254.169.254", "fd00:ec2::254"} {
		names.answer(address)
		server.CloseClientConnections()
		webhook.CloseIdle(s)
		e := wantError(t, send(t.Context(), s, message("x")), sinks.Retry, "is refused")
		if strings.Contains(e.Error(), "query-secret") {
			t.Errorf("%v tells the query", e.Error())
		}
	}
	names.answer("127.0.0.1")
	if err := send(t.Context(), s, message("x")); err != nil {
		t.Error(err)
	}
	if n := box.Counts().Requests; n != 2 {
		t.Errorf("%d requests arrived", n)
	}
}

// nameServer answers every question with one address.
type nameServer struct {
	mu   sync.Mutex
	addr netip.Addr
}

func (n *nameServer) answer(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addr = netip.MustParseAddr(address)
}

func (n *nameServer) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			reply, err := n.reply(buf[:size])
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := conn.WriteTo(reply, from); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (n *nameServer) reply(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, fmt.Errorf("a query: %w", err)
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range m.Questions {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case q.Type == dnsmessage.TypeA && n.addr.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: n.addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && n.addr.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: n.addr.As16()}})
		}
	}
	return m.Pack()
}
