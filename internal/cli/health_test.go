package cli_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestHealthOfARunThatIsReady(t *testing.T) {
	config, _, _ := site(t)
	p := spawn(t, "run", "-c", config)
	p.await("msg=\"ready")
	for _, question := range []struct {
		args   []string
		answer string
	}{
		{[]string{"health", "-c", config}, "ok\n"},
		{[]string{"health", "-c", config, "--ready"}, "ready\n"},
	} {
		if code, out, errs := keyhook(question.args...); code != 0 || out != question.answer || errs != "" {
			t.Errorf("%v: exit code %d, %q, %q", question.args, code, out, errs)
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if code, out, errs := keyhook("health", "-c", config); code != 1 || out != "" || !strings.Contains(errs, "no process has announced itself") {
		t.Errorf("after its end: exit code %d, %q, %q", code, out, errs)
	}
}

// One that waits for etcd is alive, which is what restarts a container or not,
// and is not ready.
func TestHealthOfARunWithoutEtcd(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml": strings.Replace(goodConfig, "etcd: {", "etcd: {username: u, password: {env: ONLY_THE_RUN_HAS_IT}, ", 1),
		"rules/a.yaml": goodRules,
	})
	config := filepath.Join(dir, "keyhook.yaml")
	t.Setenv("ONLY_THE_RUN_HAS_IT", "s3cret")
	p := spawn(t, "run", "-c", config)
	p.await("trying on")
	if err := os.Unsetenv("ONLY_THE_RUN_HAS_IT"); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := keyhook("health", "-c", config); code != 0 || out != "ok\n" {
		t.Errorf("alive: exit code %d, %q, %q", code, out, errs)
	}
	code, out, errs := keyhook("health", "-c", config, "--ready")
	if code != 1 || out != "" || !strings.Contains(errs, "503 Service Unavailable: ") || strings.Contains(errs, "s3cret") {
		t.Errorf("ready: exit code %d, %q, %q", code, out, errs)
	}
}

// Before a process has announced itself, and where it listens on all addresses,
// the configuration says where it is.
func TestHealthGoesByTheConfiguration(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		http.Redirect(w, r, "http://elsewhere.example.com/", http.StatusFound)
	}))
	defer server.Close()
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	dir := write(t, map[string]string{"keyhook.yaml": "admin: {listen: ':" + port + "'}\n"})
	code, _, errs := keyhook("health", "-c", filepath.Join(dir, "keyhook.yaml"), "--ready")
	if got := <-asked; got != "/readyz" || code != 1 || !strings.Contains(errs, "302 Found") {
		t.Errorf("asked for %s; exit code %d, %q", got, code, errs)
	}
	if code, _, errs := keyhook("health", "-c", filepath.Join(dir, "missing.yaml")); code != 2 || !strings.Contains(errs, "cannot read the configuration") {
		t.Errorf("no configuration: exit code %d, %q", code, errs)
	}
}
