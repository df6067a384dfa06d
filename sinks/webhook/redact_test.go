package webhook

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"keyhook"
	"keyhook/sinks/redact"
)

var secretive = Config{
	URL: "https://token-in-user@hooks.example.com/services/T0AB12CD3?key=qu%65ry&sig=a%2Bb%2Fc",
	Headers: []keyhook.Header{
		{Name: "Authorization", Value: "Bearer abcdefgh.ijkl"}, {Name: "X-Key", Value: "abcdefgh"},
		{Name: "Cookie", Value: `sid="qu<te>d"; theme=dark`}, {Name: "Content-Type", Value: "application/json"},
		{Name: "Proxy-Authorization", Value: "Basic am86dG9wcytjcmV0L3dvcmQ="},
	},
	Sign: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
}

// told are the parts of secretive that must never show.
var told = []string{
	"token-in-user", "T0AB12CD3", "query", "a+b/c", "abcdefgh", `sid="qu<te>d"`,
	"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "dG9rZW4taW4tdXNlcjo=",
}

func testRedactor(t testing.TB) *redact.Redactor {
	t.Helper()
	u, err := url.Parse(secretive.URL)
	if err != nil {
		t.Fatal(err)
	}
	return newRedactor(secretive, u)
}

func TestSecretsAreRedacted(t *testing.T) {
	r := testRedactor(t)
	for in, want := range map[string]string{
		"Bearer abcdefgh.ijkl":               "[redacted]",
		"token abcdefgh.ijkl is no token":    "token [redacted] is no token",
		"key abcdefgh":                       "key [redacted]",
		"abcdefghabcdefgh.ijkl":              "[redacted][redacted]",
		"expects application/json":           "expects application/json",
		"POST /services/T0AB12CD3?key=query": "POST [redacted]?key=[redacted]",
		"team T0AB12CD3":                     "team [redacted]",
		"a\x00b\r\n\r\nc\u200bd":             "a b c\ufffdd",
		"  spaces \t around ":                "spaces around",
		"a%2Bb%2Fc, qu%65ry":                 "[redacted], [redacted]",
		"":                                   "",
	} {
		if got := r.Clean(in, false); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	for _, secret := range told {
		marshaled, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), string(marshaled)} {
			if got := r.Clean("it is "+form+" indeed", false); strings.Contains(got, strings.Trim(form, `"`)) {
				t.Errorf("%q shows %q", got, form)
			}
		}
	}
}

// A receiver that quotes what it was sent may fold the case of it, as header
// names are, or encode it: whole, or with what stood around it.
func TestSecretsAreRedactedInOtherClothes(t *testing.T) {
	r := testRedactor(t)
	for _, secret := range []string{"T0AB12CD3", "abcdefgh.ijkl", "token-in-user", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "tops+cret/word"} {
		for name, form := range map[string]string{
			"lower case": strings.ToLower(secret), "upper case": strings.ToUpper(secret),
			"escaped, in lower case": strings.ToLower(url.QueryEscape(secret)),
		} {
			if got := r.Clean("no "+form+" here", false); got != "no [redacted] here" {
				t.Errorf("%s of %s: %q", name, secret, got)
			}
		}
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			if got := r.Clean(encoding.EncodeToString([]byte(secret)), false); !strings.HasPrefix(got, redact.Mark) || len(got) > len(redact.Mark)+1 {
				t.Errorf("base64 of %s: %q", secret, got)
			}
			for _, around := range []string{"", "x", "xy", "xyz"} {
				whole := encoding.EncodeToString([]byte(around + secret + "\x00\xff" + around))
				got := r.Clean(whole, false)
				if !strings.Contains(got, redact.Mark) || len(got) > len(whole)-len(secret)+len(redact.Mark) {
					t.Errorf("base64 of %s amid %q: %q of %q", secret, around, got, whole)
				}
			}
		}
	}
}

// What is cut off may end within a secret, wherever the cut is.
func TestACutSecretIsRedacted(t *testing.T) {
	r := testRedactor(t)
	for _, secret := range told {
		for n := 4; n < len(secret); n++ {
			text := strings.Repeat("x", 200) + secret[:n]
			if got := r.Clean(text, true); strings.Contains(got, secret[:4]) {
				t.Fatalf("%q shows %q", got, secret[:n])
			}
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("key abcdefgh", false)
	f.Add("\xff\x00 abcdefg", true)
	r := testRedactor(f)
	f.Fuzz(func(t *testing.T, text string, cut bool) {
		got := r.Clean(text, cut)
		if len(got) > redact.MaxText+2*utf8.UTFMax || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
		for _, c := range got {
			if !unicode.IsPrint(c) {
				t.Errorf("%q does not print", c)
			}
		}
		// A secret may stand in the result only if its parts were apart in the text.
		for _, secret := range told {
			if strings.Contains(text, secret) && strings.Contains(got, secret) {
				t.Errorf("%q shows %q", got, secret)
			}
		}
	})
}

// The vector of the specification.
func TestTheVectorOfStandardWebhooks(t *testing.T) {
	k, err := parseKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := k.sign(nil, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
