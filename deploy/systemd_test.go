package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const unitFile = "systemd/keyhook.service"

// analyzer returns systemd-analyze. Where it must not be missing, which CI says,
// it fails the test.
func analyzer(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	switch {
	case err == nil:
		return path
	case os.Getenv("KEYHOOK_TEST_COMPLETE") != "":
		t.Fatal("systemd-analyze is missing; it comes with the package systemd")
	default:
		t.Skip("systemd-analyze is not installed: systemd has not verified the unit")
	}
	return ""
}

// verify asks systemd for its opinion of a unit, with a program that exists in
// place of keyhook.
func verify(t *testing.T, unit string) (string, error) {
	t.Helper()
	analyze := analyzer(t)
	im := newImage(t)
	path := filepath.Join(t.TempDir(), "keyhook.service")
	write(t, path, strings.ReplaceAll(unit, "/usr/local/bin/keyhook", filepath.Join(im.out, "keyhook")))
	// On this machine's units alone, and without asking a manager.
	said, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput()
	if err != nil || len(said) > 0 {
		return string(said), err
	}
	// 0 is confined in every way, 10 in none.
	said, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", "--no-pager", path).CombinedOutput()
	return string(said), err
}

func TestTheUnitIsWhatSystemdTakes(t *testing.T) {
	unit := read(t, unitFile)
	said, err := verify(t, unit)
	if err != nil || !strings.Contains(said, "Overall exposure level") {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := verify(t, strings.Replace(unit, "StateDirectory=", "StateDir=", 1)); !strings.Contains(said, "StateDir") {
		t.Errorf("an unknown setting passes: %v\n%s", err, said)
	}
	if said, err := verify(t, regexp.MustCompile(`(?m)^(Protect|Restrict|Private|System|Capability).*\n`).ReplaceAllString(unit, "")); err == nil {
		t.Errorf("a unit without confinement passes:\n%s", said)
	}
}

// The unit, its configuration and the binary fit each other.
func TestTheUnitFitsKeyhook(t *testing.T) {
	unit, config := read(t, unitFile), read(t, "systemd/keyhook.yaml")
	setting := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return m[1]
	}
	if dir := "/var/lib/" + setting("StateDirectory"); !strings.Contains(config, "dir: "+dir+"}") {
		t.Errorf("the unit makes %s, the configuration has another:\n%s", dir, config)
	}
	if code := setting("RestartPreventExitStatus"); code != "2" {
		t.Errorf("a wrong configuration ends with 2, not %s", code)
	}
	c := newImage(t).container(t, "")
	words := strings.Fields(setting("ExecStart"))
	path := words[len(words)-1]
	c.mount(path, config)
	c.mount(filepath.Join(filepath.Dir(path), "rules", "a.yaml"), "sinks: [{name: s, webhook: {url: 'http://127.0.0.1/'}}]\nrules: [{name: a, keys: /a, send: {sink: s}}]\n")
	for _, line := range []string{"ExecStartPre", "ExecStart"} {
		words := strings.Fields(setting(line))
		if words[0] != "/usr/local/bin/keyhook" || words[len(words)-1] != path {
			t.Errorf("%s is %q", line, words)
		}
		// Asking for help shows that the binary knows the words.
		if said, err := c.command(t.Context(), append(words[1:], "--help")...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, said)
		}
	}
	c.check(path)
}
