package lab

import (
	"os/exec"
	"strings"
	"testing"
)

func TestTheProgramsOfAVersionAreThatVersion(t *testing.T) {
	// The others are built where they are needed; that the newest builds is
	// shown here as well as anywhere.
	p, err := EtcdProgramsOf(t.Context(), LatestEtcd)
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), p.Server, "--version").Output()
	if err != nil || !strings.Contains(string(said), LatestEtcd) {
		t.Errorf("etcd --version says %s (%v), not %s", said, err, LatestEtcd)
	}
	if said, err = exec.CommandContext(t.Context(), p.Utility, "version").Output(); err != nil || !strings.Contains(string(said), LatestEtcd) {
		t.Errorf("etcdutl version says %s (%v), not %s", said, err, LatestEtcd)
	}
	if _, err := EtcdProgramsOf(t.Context(), "3.4.0"); err == nil {
		t.Error("an etcd that no module pins was built")
	}
}
