package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
)

// Defaults of a Config.
const (
	DefaultTimeout    = 15 * time.Second
	DefaultMaxPending = 4096
)

// Config says where to deliver and how. Only URL is required.
type Config struct {
	// URL is nats:// or tls://, or several of one cluster, separated by commas;
	// port 4222 if there is none. A user in it (a token, if there is no password)
	// is treated as secret and stands for User and Password, or Token.
	URL string
	// JetStream waits for the acknowledgement of a stream, Request for a reply of
	// an application. With neither, a message counts as delivered when the server
	// has read it. At most one of them is set.
	JetStream, Request bool
	// Stream is the stream that is to store the messages, if JetStream is set. It
	// is looked for on each new connection, and another stream's acknowledgement
	// does not count. Empty means whichever takes the subject.
	Stream string
	// Binary sends CloudEvents in binary mode.
	Binary bool

	// At most one way to authenticate is set: a user with a password, a token, the
	// seed of a user's nkey, or a file with a user's JWT and seed. All are secret.
	User, Password, Token, NKey string
	CredsFile                   string
	// TLS, if set, insists on TLS. Without it TLS is used where the server asks
	// for it, with the system's authorities.
	TLS *TLS
	// InboxPrefix is what the subjects of acknowledgements begin with; default
	// "_INBOX". The user must be allowed to subscribe to "<prefix>.>".
	InboxPrefix string

	// Timeout bounds one attempt, connecting included; default 15s.
	Timeout time.Duration
	// MaxPending is how many messages may wait for their acknowledgement at once;
	// default 4096.
	MaxPending int
	// Version is what the name of the connection says behind "keyhook/".
	Version string
	// Log is told of connections made and lost; default: nobody.
	Log *slog.Logger
}

// TLS says whom to trust and who to be. Its files are read for each connection.
type TLS struct {
	CAFile            string // default: the system's authorities
	CertFile, KeyFile string // of the client; both or none
	// HandshakeFirst is for servers that expect TLS before anything else.
	HandshakeFirst bool
}

// FieldError is a mistake in one field of a Config. It holds no secret.
type FieldError struct {
	Field   string // as users write it: "url", "tls.ca_file"
	Message string
	Hint    string // what to do about it; may be empty
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// problems gathers every mistake of a Config.
type problems []error

func (p *problems) add(field, hint, format string, args ...any) {
	*p = append(*p, &FieldError{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// check fills in the defaults of c and returns its servers, without users.
func (c *Config) check() ([]*url.URL, error) {
	var p problems
	servers := p.servers(c)
	p.authentication(c)
	p.mode(c)
	if c.TLS != nil {
		if _, err := c.TLS.load(); err != nil {
			p = append(p, err)
		}
	}
	if c.InboxPrefix == "" {
		c.InboxPrefix = "_INBOX"
	} else if err := checkPrefix(c.InboxPrefix); err != nil {
		p.add("inbox_prefix", `such as "_INBOX_keyhook"`, "%v", err)
	}
	switch {
	case c.Timeout < 0:
		p.add("timeout", "", "%v is negative", c.Timeout)
	case c.Timeout == 0:
		c.Timeout = DefaultTimeout
	}
	switch {
	case c.MaxPending < 0:
		p.add("max_pending", "", "%d is negative", c.MaxPending)
	case c.MaxPending == 0:
		c.MaxPending = DefaultMaxPending
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return servers, errors.Join(p...)
}

const urlHint = "such as nats://nats.example.com:4222; several servers of a cluster are separated by commas"

// servers parses the URL, and moves its user to where the others are.
func (p *problems) servers(c *Config) []*url.URL {
	if c.URL == "" {
		p.add("url", urlHint, "is missing")
		return nil
	}
	var servers []*url.URL
	var user *url.Userinfo
	for part := range strings.SplitSeq(c.URL, ",") {
		u := p.server(strings.TrimSpace(part))
		if u == nil {
			return nil
		}
		switch {
		case user == nil:
			user = u.User
		case u.User != nil && *u.User != *user:
			p.add("url", "the servers of a cluster share their users", "names different users")
			return nil
		}
		u.User = nil
		servers = append(servers, u)
	}
	if user == nil {
		return servers
	}
	if c.User != "" || c.Password != "" || c.Token != "" || c.NKey != "" || c.CredsFile != "" {
		p.add("url", "give one of them", "names a user, and so does another field")
		return servers
	}
	password, ok := user.Password()
	if ok {
		c.User, c.Password = user.Username(), password
	} else {
		c.Token = user.Username()
	}
	return servers
}

func (p *problems) server(raw string) *url.URL {
	// What the parser has to say may quote a password: it stays out.
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		p.add("url", urlHint+"; special characters in a password must be percent-encoded", "is not a valid URL")
	case u.Scheme != "nats" && u.Scheme != "tls":
		p.add("url", urlHint, "must begin with nats:// or tls://")
	case u.Hostname() == "":
		p.add("url", urlHint, "has no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		p.add("url", urlHint, "must end with the host and its port")
	case strings.HasSuffix(u.Host, ":"):
		p.add("url", "", "has an empty port")
	default:
		if port := u.Port(); port == "" {
			u.Host += ":4222"
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			p.add("url", "", "port %s is not between 1 and 65535", port)
			return nil
		}
		u.Path = ""
		return u
	}
	return nil
}

func (p *problems) authentication(c *Config) {
	var ways []string
	for _, way := range []struct {
		name string
		set  bool
	}{
		{"user", c.User != "" || c.Password != ""}, {"token", c.Token != ""},
		{"nkey", c.NKey != ""}, {"creds_file", c.CredsFile != ""},
	} {
		if way.set {
			ways = append(ways, way.name)
		}
	}
	if len(ways) > 1 {
		p.add(ways[1], "give one of them", "does not go with %s", ways[0])
	}
	switch {
	case c.User != "" && c.Password == "":
		p.add("user", "a token goes into token", "has no password")
	case c.User == "" && c.Password != "":
		p.add("password", "", "has no user")
	}
	if c.NKey != "" {
		if _, err := userKey(c.NKey); err != nil {
			p.add("nkey", `the line that begins with "SU" in what nk -gen user prints`, "is not the seed of a user")
		}
	}
	if c.CredsFile != "" {
		if _, err := readCreds(c.CredsFile); err != nil {
			p.add("creds_file", "the file that nsc generate creds writes", "%v", err)
		}
	}
}

func userKey(seed string) (nkeys.KeyPair, error) {
	return nkeys.ParseDecoratedUserNKey([]byte(strings.TrimSpace(seed)))
}

func (p *problems) mode(c *Config) {
	if c.JetStream && c.Request {
		p.add("request", "an acknowledgement of a stream or the reply of an application: give one of them", "does not go with jetstream")
	}
	switch {
	case c.Stream == "":
	case !c.JetStream:
		p.add("stream", "write jetstream: true", "is for JetStream only")
	case len(c.Stream) > 255 || strings.ContainsAny(c.Stream, ".*>/\\ \t\r\n") || CheckSubject(c.Stream) != nil:
		p.add("stream", "", "%q cannot be the name of a stream", c.Stream)
	}
}

// checkPrefix returns an error if inboxes cannot begin with s.
func checkPrefix(s string) error {
	if len(s) > 128 {
		return errors.New("is longer than 128 bytes")
	}
	if err := CheckSubject("x." + s); err != nil {
		return fmt.Errorf("%q cannot be the beginning of a subject", s)
	}
	return nil
}
