package strictyaml_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"keyhook/internal/strictyaml"
)

// TestSecretSources reads a secret from each place that it can come from.
func TestSecretSources(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYHOOK_TEST_SECRET", "from env")
	var f struct {
		Plain strictyaml.Secret `yaml:"plain"`
		Env   strictyaml.Secret `yaml:"env"`
		File  strictyaml.Secret `yaml:"file"`
		None  strictyaml.Secret `yaml:"none"`
	}
	ps := strictyaml.Decode(filepath.Join(dir, "a.yaml"), []byte("plain: from plain\nenv: {env: KEYHOOK_TEST_SECRET}\nfile: {file: key}\n"), &f)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	for want, got := range map[string]strictyaml.Secret{"from plain": f.Plain, "from env": f.Env, "from file": f.File, "": f.None} {
		if got.Reveal() != want || got.IsSet() != (want != "") {
			t.Errorf("got %q from %q, want %q", got.Reveal(), got.From(), want)
		}
	}
}

// TestSecretStaysSecret prints one in every way.
func TestSecretStaysSecret(t *testing.T) {
	s := strictyaml.NewSecret("sesame")
	inside := struct {
		S strictyaml.Secret
		P *strictyaml.Secret
		M map[string]strictyaml.Secret
	}{s, &s, map[string]strictyaml.Secret{"k": s}}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "inside", inside, "p", &s)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "inside", inside, "p", &s)
	asJSON, err := json.Marshal(inside)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Dump(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	printed := log.String() + string(asJSON) + string(asYAML) + s.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &s) + fmt.Sprintf(verb, inside)
	}
	for _, leak := range []string{"sesame", fmt.Sprintf("%x", "sesame")} {
		if strings.Contains(printed, leak) {
			t.Fatalf("%q leaked: %s", leak, printed)
		}
	}
}

// TestSecretProblemsHoldNoSecret: a secret of another type is not quoted.
func TestSecretProblemsHoldNoSecret(t *testing.T) {
	var f struct {
		A strictyaml.Secret `yaml:"a"`
		B strictyaml.Secret `yaml:"b"`
	}
	ps := strictyaml.Decode("a.yaml", []byte("a: 74839\nb: [sesame]\n"), &f)
	if len(ps) != 2 || strings.Contains(ps.Error(), "74839") || strings.Contains(ps.Error(), "sesame") {
		t.Fatalf("got %v", ps)
	}
}
