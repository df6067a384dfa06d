package webhook

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"keyhook"
)

// Defaults of a Config.
const (
	DefaultTimeout     = 15 * time.Second
	DefaultConcurrency = 16
)

// Config says where to deliver and how. Only URL is required.
type Config struct {
	// URL is http or https. Its user becomes an Authorization header. User, path
	// and query are treated as secret.
	URL string
	// Headers are sent with every request; their values may be secret. A header
	// that the message brings replaces one of the same name.
	Headers []keyhook.Header
	// Sign holds Standard Webhooks secrets: "whsec_" and base64 of 24 to 64 bytes
	// for HMAC-SHA256, or "whsk_" and base64 of an ed25519 private key (64 bytes,
	// or its seed of 32). Each adds a signature; none leaves the header out.
	Sign []string
	// Timeout bounds one whole exchange, the body included; default 15s.
	Timeout time.Duration
	// Concurrency is how many connections are kept open while idle; default 16.
	// It does not limit Deliver.
	Concurrency int
	// RetryOn and DeadOn name statuses from 300 to 599 that are to be retried, or
	// to become dead letters, where the default is another.
	RetryOn, DeadOn []int
	// Version is what the User-Agent says behind "keyhook/".
	Version string
	// RootCAs are the authorities to trust; default: the system's.
	RootCAs *x509.CertPool
	// Resolver resolves the URL's host; default: [net.DefaultResolver].
	Resolver *net.Resolver
}

// FieldError is a mistake in one field of a Config. It holds no secret.
type FieldError struct {
	Field   string // as users write it: "url", "headers.X-Team", "sign[0].secret"
	Message string // reads on from the field: "must begin with https://"
	Hint    string // what to do about it; may be empty
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// problems gathers every mistake of a Config.
type problems []error

func (p *problems) add(field, hint, format string, args ...any) {
	*p = append(*p, &FieldError{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// check returns the parts of c that need work, with defaults filled in.
func (c Config) check() (*Sink, error) {
	var p problems
	s := &Sink{timeout: c.Timeout, table: newTable()}
	s.url = p.url(c.URL)
	p.headers(s, c)
	for i, secret := range c.Sign {
		k, err := parseKey(secret)
		if err != nil {
			p.add(fmt.Sprintf("sign[%d].secret", i), secretHint, "%v", err)
			continue
		}
		s.keys = append(s.keys, k)
	}
	switch {
	case c.Timeout < 0:
		p.add("timeout", "", "must not be negative, as %v is", c.Timeout)
	case c.Timeout == 0:
		s.timeout = DefaultTimeout
	}
	if c.Concurrency < 0 {
		p.add("concurrency", "", "must not be negative, as %d is", c.Concurrency)
	}
	p.statuses(s, c)
	if len(p) > 0 {
		return nil, errors.Join(p...)
	}
	return s, nil
}

func (p *problems) url(raw string) *url.URL {
	const hint = "an absolute URL such as https://hooks.example.com/path"
	if raw == "" {
		p.add("url", hint, "is missing")
		return nil
	}
	// What the parser has to say may quote a password: it stays out.
	u, err := url.Parse(raw)
	if err != nil {
		p.add("url", hint+"; special characters in a password must be percent-encoded", "is not a valid URL")
		return nil
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		p.add("url", hint, "must begin with http:// or https://")
		return nil
	}
	host := u.Hostname()
	switch {
	case host == "":
		p.add("url", hint, "has no host")
	case u.Fragment != "":
		p.add("url", "percent-encode # as %23 if it belongs to the path", "has a fragment, which is never sent")
	case strings.HasSuffix(u.Host, ":"):
		p.add("url", "", "has an empty port")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			p.add("url", "", "has the port %s, which is not between 1 and 65535", port)
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if err := checkAddr(addr); err != nil {
			p.add("url", "", "cannot be called: %v", err)
		}
	}
	return u
}

func (p *problems) headers(s *Sink, c Config) {
	s.header = http.Header{}
	seen := map[string]bool{}
	for _, h := range c.Headers {
		field := "headers." + h.Name
		name := http.CanonicalHeaderKey(h.Name)
		if err := checkHeader(h); err != nil && name != "Host" {
			p.add(field, "", "%v", err)
			continue
		}
		if seen[name] {
			p.add(field, "names of headers are the same in upper and lower case", "is given twice")
			continue
		}
		seen[name] = true
		if name == "Host" {
			if h.Value == "" || !httpguts.ValidHostHeader(h.Value) {
				p.add(field, "", "is not a host name")
			}
			s.host = h.Value
			continue
		}
		s.header[name] = []string{h.Value}
	}
	if s.url != nil && s.url.User != nil {
		if seen["Authorization"] {
			p.add("headers.Authorization", "give one of them", "is given, and so is a user in the url")
		}
		password, _ := s.url.User.Password()
		s.header["Authorization"] = []string{"Basic " + basicAuth(s.url.User.Username(), password)}
	}
	if !seen["User-Agent"] {
		agent := "keyhook"
		if c.Version != "" {
			agent += "/" + c.Version
		}
		s.header["User-Agent"] = []string{agent}
	}
}

func (p *problems) statuses(s *Sink, c Config) {
	valid := func(field string, status int) bool {
		if status < 300 || status > 599 {
			p.add(field, "2xx always means delivered", "has %d, which is no status between 300 and 599", status)
			return false
		}
		return true
	}
	for _, status := range c.RetryOn {
		if valid("retry_on", status) {
			s.table.set(status, retry)
		}
	}
	for _, status := range c.DeadOn {
		if !valid("dead_on", status) {
			continue
		}
		if slices.Contains(c.RetryOn, status) {
			p.add("dead_on", "", "has %d, which stands in retry_on as well", status)
		}
		s.table.set(status, reject)
	}
}
