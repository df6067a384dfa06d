package webhook_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keyhook"
	"keyhook/sinks/webhook"
)

func TestMistakesInAConfiguration(t *testing.T) {
	const url = "https://hooks.example.com/x"
	header := func(name, value string) []keyhook.Header { return []keyhook.Header{{Name: name, Value: value}} }
	for name, tt := range map[string]struct {
		cfg  webhook.Config
		want string
	}{
		"no url":            {webhook.Config{}, "url: is missing"},
		"no scheme":         {webhook.Config{URL: "hooks.example.com/x"}, "url: must begin with http:// or https://"},
		"another scheme":    {webhook.Config{URL: "ftp://hooks.example.com/x"}, "url: must begin with http:// or https://"},
		"no host":           {webhook.Config{URL: "http:///x"}, "url: has no host"},
		"a raw password":    {webhook.Config{URL: "http://jo:tops/ecret@h/x"}, "url: is not a valid URL"},
		"a control char":    {webhook.Config{URL: "http://h/x\n"}, "url: is not a valid URL"},
		"a fragment":        {webhook.Config{URL: url + "#a"}, "url: has a fragment, which is never sent"},
		"port 0":            {webhook.Config{URL: "http://h:0/"}, "url: has the port 0, which is not between 1 and 65535"},
		"port 70000":        {webhook.Config{URL: "http://h:70000/"}, "url: has the port 70000, which is not between 1 and 65535"},
		"no port":           {webhook.Config{URL: "http://h:/"}, "url: has an empty port"},
		"metadata":          {webhook.Config{URL: "http://169.254.169.254/latest"}, "url: cannot be called: address 169.254.169.254 is refused"},
		"mapped metadata":   {webhook.Config{URL: "http://[::ffff:a9fe:a9fe]/"}, "url: cannot be called: address 169.254.169.254 is refused"},
		"link-local":        {webhook.Config{URL: "http://[fe80::1%25eth0]/"}, "url: cannot be called: address fe80::1 is refused"},
		"a reserved header": {webhook.Config{URL: url, Headers: header("webhook-id", "1")}, "headers.webhook-id: is set by keyhook"},
		"a header's name":   {webhook.Config{URL: url, Headers: header("X Y", "1")}, "headers.X Y: is not a valid header name"},
		"a header's value":  {webhook.Config{URL: url, Headers: header("X-Y", "tops\necret")}, "headers.X-Y: has a line break"},
		"a host":            {webhook.Config{URL: url, Headers: header("Host", "")}, "headers.Host: is not a host name"},
		"a header twice":    {webhook.Config{URL: url, Headers: append(header("X-Y", "1"), header("x-y", "2")...)}, "headers.x-y: is given twice"},
		"two authorities":   {webhook.Config{URL: "http://jo:tops@h/", Headers: header("authorization", "b")}, "headers.Authorization: is given, and so is a user in the url"},
		"no secret":         {webhook.Config{URL: url, Sign: []string{""}}, "sign[0].secret: is empty"},
		"a bare secret":     {webhook.Config{URL: url, Sign: []string{"topsecret"}}, "sign[0].secret: must begin with whsec_"},
		"no base64":         {webhook.Config{URL: url, Sign: []string{"whsec_tops!"}}, "sign[0].secret: is not base64 behind whsec_"},
		"a short secret":    {webhook.Config{URL: url, Sign: []string{testSecret, "whsec_dG9wcw=="}}, "sign[1].secret: has 4 bytes, not 24 to 64"},
		"a long secret":     {webhook.Config{URL: url, Sign: []string{"whsec_" + strings.Repeat("dG9w", 22)}}, "sign[0].secret: has 66 bytes, not 24 to 64"},
		"a public key":      {webhook.Config{URL: url, Sign: []string{"whpk_dG9wcw=="}}, "sign[0].secret: is a public key"},
		"half a key":        {webhook.Config{URL: url, Sign: []string{"whsk_dG9wcw=="}}, "sign[0].secret: is an ed25519 key of 4 bytes"},
		"a bad key":         {webhook.Config{URL: url, Sign: []string{"whsk_" + strings.Repeat("A", 86) + "=="}}, "sign[0].secret: holds two halves of an ed25519 key"},
		"a bad base64 key":  {webhook.Config{URL: url, Sign: []string{"whsk_tops!"}}, "sign[0].secret: is not base64 behind whsk_"},
		"a timeout":         {webhook.Config{URL: url, Timeout: -time.Second}, "timeout: must not be negative, as -1s is"},
		"a concurrency":     {webhook.Config{URL: url, Concurrency: -1}, "concurrency: must not be negative"},
		"retrying 200":      {webhook.Config{URL: url, RetryOn: []int{200}}, "retry_on: has 200, which is no status between 300 and 599"},
		"dead on 600":       {webhook.Config{URL: url, DeadOn: []int{600}}, "dead_on: has 600, which is no status between 300 and 599"},
		"both":              {webhook.Config{URL: url, RetryOn: []int{404}, DeadOn: []int{404}}, "dead_on: has 404, which stands in retry_on as well"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := webhook.New(tt.cfg)
			if s != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one mistake: %v", err)
			}
			var field *webhook.FieldError
			if !errors.As(err, &field) {
				t.Errorf("%v is no FieldError", err)
			}
			for _, secret := range []string{"tops", "dG9w", "ecret"} {
				// "the secret" is our own word.
				if strings.Contains(strings.ReplaceAll(fmt.Sprintf("%+v %s", err, field.Hint), "secret", ""), secret) {
					t.Errorf("%v tells %q", err, secret)
				}
			}
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := webhook.New(webhook.Config{URL: "ftp://h/", Timeout: -1, Sign: []string{"x"}, RetryOn: []int{7}})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v", err)
	}
	var fields []string
	for _, err := range joined.Unwrap() {
		var field *webhook.FieldError
		if !errors.As(err, &field) {
			t.Fatalf("%v is no FieldError", err)
		}
		fields = append(fields, field.Field)
	}
	if want := []string{"url", "sign[0].secret", "timeout", "retry_on"}; !slices.Equal(fields, want) {
		t.Errorf("mistakes in %v, want %v", fields, want)
	}
}

func TestPrivateNetworksAreFine(t *testing.T) {
	for _, url := range []string{
		"http://127.0.0.1:8080/x", "http://[::1]/", "http://10.0.0.1/", "https://192.168.1.1/", "http://172.16.0.1",
		"http://[fd00::1]/", "http://localhost/", "http://0.0.0.0:1/", "http://h/?a=1", "https://jo:pw@h:65535",
	} {
		if _, err := webhook.New(webhook.Config{URL: url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
