package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"keyhook/checkpoint/disk"
	"keyhook/internal/app"
	"keyhook/internal/etcdtest"
	"keyhook/internal/hint"
	"keyhook/internal/inbox"
)

func TestDeliversAndGoesOnWhereItStopped(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.put("/a/before", "not delivered: start is now")

	p := s.up()
	if status, page := p.get("/readyz"); status != http.StatusOK {
		t.Errorf("ready, and /readyz says %d: %s", status, page)
	}
	s.put("/a/x", "1")
	s.put("/elsewhere", "nobody asked")
	s.expect("saw PUT x=1")
	p.stop()

	s.put("/a/x", "2")
	if _, err := s.etcd.Client().Delete(t.Context(), "/a/x"); err != nil {
		t.Fatal(err)
	}
	p = s.up()
	s.put("/a/x", "3")
	s.expect("saw PUT x=1", "saw PUT x=2", "saw DELETE x=", "saw PUT x=3")

	for series, want := range map[string]string{
		"keyhook_events_total":            "3",
		`keyhook_matches_total{rule="a"}`: "3",
		`keyhook_deliveries_total{outcome="delivered",rule="a",sink="a-sink"}`: "3",
		`keyhook_attempts_total{outcome="delivered",sink="a-sink"}`:            "3",
		`keyhook_owed{sink="a-sink"}`:                                          "0",
		`keyhook_rules_stale`:                                                  "0",
		`keyhook_ready`:                                                        "1",
		`keyhook_gaps_total`:                                                   "0",
		`keyhook_end_to_end_seconds_count`:                                     "3",
	} {
		p.eventually(series+" "+want, func() bool { return p.metric(series) == want })
	}
}

func TestTheDefaultSourceNamesTheCluster(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", fmt.Sprintf(`
sinks: [{name: box, webhook: {url: "%s/"}}]
rules: [{name: a, keys: "/a/{x}", send: {sink: box}}]
`, s.box.URL()))
	p := s.up()
	s.put("/a/x", "1")
	if err := s.box.Await(t.Context(), func(c inbox.Counts) bool { return c.Acknowledged == 1 }); err != nil {
		t.Fatal(err)
	}
	resp, err := s.etcd.Client().Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("/etcd/%x", resp.Header.ClusterId)
	var event struct{ Source string }
	if err := json.Unmarshal(s.box.Requests()[0].Body, &event); err != nil {
		t.Fatal(err)
	}
	if st := p.status(); event.Source != want || st.Source != want || "/etcd/"+st.ClusterID != want {
		t.Errorf("the event is from %q, the status from %q, the cluster is %q", event.Source, st.Source, want)
	}
}

func TestTheInstanceFileLastsAsLongAsTheRun(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	p := s.up()
	in, err := s.announced()
	if err != nil || in.Address != p.admin || in.ID != p.status().Instance || in.ID == "" {
		t.Errorf("announced %+v, %v; the admin server is %s of %s", in, err, p.admin, p.status().Instance)
	}
	p.stop()
	if in, err := s.announced(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still announced: %+v, %v", in, err)
	}
}

func TestOneProcessADirectory(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.up()
	plan, err := app.Load(filepath.Join(s.dir, "keyhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	err = app.Run(t.Context(), app.Options{Plan: plan})
	if !errors.Is(err, disk.ErrInUse) || hint.Of(err) == "" {
		t.Errorf("the second process ends with %v", err)
	}
}

func TestAnAdminAddressInUseIsAnErrorWithAHint(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	p := s.up()
	other := newSite(t)
	other.write("rules/a.yaml", other.rule("a", "/a/", "saw"))
	plan, err := app.Load(filepath.Join(other.dir, "keyhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	plan.Config.Admin.Listen = p.admin
	err = app.Run(t.Context(), app.Options{Plan: plan})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	other.up() // it has let go of its directory
}

func TestStaysUpUntilEtcdComes(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.etcd.Stop()

	p := s.start()
	p.eventually("a reason", func() bool {
		status, page := p.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(page, "etcd cannot be reached")
	})
	if status, _ := p.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz says %d", status)
	}
	if st := p.status(); st.Ready || len(st.Ranges) != 1 || st.Ranges[0].Range != "/a/" || st.Ranges[0].State != "starting" {
		t.Errorf("status %+v", st)
	}

	s.etcd.Start()
	p.awaitReady()
	s.put("/a/x", "1")
	s.expect("saw PUT x=1")
}

// What is owed does not wait for etcd.
func TestDeliversWhatItOwesWithoutEtcd(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Status: http.StatusServiceUnavailable} })
	p := s.up()
	s.put("/a/x", "1")
	if err := s.box.Await(t.Context(), func(c inbox.Counts) bool { return c.Refused > 0 }); err != nil {
		t.Fatal(err)
	}
	p.eventually("it is owed", func() bool { return p.metric(`keyhook_owed{sink="a-sink"}`) == "1" })
	p.stop()
	s.etcd.Stop()

	p = s.start()
	s.box.SetReply(nil)
	s.expect("saw PUT x=1")
	if status, _ := p.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("without etcd, /readyz says %d", status)
	}
}

func TestSaysThatThePasswordIsWrong(t *testing.T) {
	s := newSite(t, etcdtest.WithAuth("correct"))
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.configure("  username: root\n  password: wr0ng-s3cret")
	p := s.start()
	p.eventually("the reason", func() bool {
		_, page := p.get("/readyz")
		return strings.Contains(page, `etcd refuses the user "root" or its password`) &&
			strings.Contains(page, "check etcd.username and etcd.password")
	})
	p.stop()
	if strings.Contains(s.logs.String(), "wr0ng-s3cret") {
		t.Error("the password is in the log")
	}
}

func TestNamesTheRangeThatMayNotBeRead(t *testing.T) {
	s := newSite(t, etcdtest.WithAuth("correct"))
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.write("rules/b.yaml", s.rule("b", "/b/", "saw"))
	root := s.etcd.Client()
	_, err := root.UserAdd(t.Context(), "reader", "pw")
	if err == nil {
		_, err = root.RoleAdd(t.Context(), "b")
	}
	if err == nil {
		_, err = root.RoleGrantPermission(t.Context(), "b", "/b/", "/b0", 0)
	}
	if err == nil {
		_, err = root.UserGrantRole(t.Context(), "reader", "b")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.configure("  username: reader\n  password: pw")

	p := s.start()
	p.eventually("the reason", func() bool {
		_, page := p.get("/readyz")
		return strings.Contains(page, `"reader" needs READ on ["/a/"`)
	})
	// What may be read is.
	p.eventually("/b/ is watched", func() bool {
		for _, r := range p.status().Ranges {
			if r.Range == "/b/" {
				return r.Ready
			}
		}
		return false
	})
	s.put("/b/x", "1")
	s.expect("saw PUT x=1")

	if _, err := root.RoleGrantPermission(t.Context(), "b", "/a/", "/a0", 0); err != nil {
		t.Fatal(err)
	}
	p.awaitReady()
}

func TestARunThatIsToldToStopBeforeItBegan(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	plan, err := app.Load(filepath.Join(s.dir, "keyhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := app.Run(ctx, app.Options{Plan: plan}); err != nil {
		t.Errorf("got %v", err)
	}
	s.up() // it has left everything in order
}

func TestTLSWithAClientCertificate(t *testing.T) {
	s := newSite(t, etcdtest.WithTLS())
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	files := s.etcd.TLS()
	s.configure(fmt.Sprintf("  tls: {ca_file: %q, cert_file: %q, key_file: %q}", files.CAFile, files.CertFile, files.KeyFile))
	s.up()
	s.put("/a/x", "1")
	s.expect("saw PUT x=1")
}

// A condition that fails is a non-match that shows.
func TestAConditionThatFailsIsCountedAndLogged(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", strings.Replace(s.rule("a", "/a/", "saw"), "    send:", "    when: event.json.on == true\n    send:", 1))
	p := s.up()
	s.put("/a/x", "no json")
	s.put("/a/x", "no json either")
	s.put("/a/x", `{"on":true}`)
	s.expect(`saw PUT x={"on":true}`)
	if got := p.metric(`keyhook_rule_errors_total{rule="a"}`); got != "2" {
		t.Errorf("keyhook_rule_errors_total is %q", got)
	}
	if n := strings.Count(s.logs.String(), "a condition failed"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// History that is gone halts the range where that is asked for, and says so; what
// is owed goes out.
func TestAHistoryThatWasRolledBackHalts(t *testing.T) {
	s, p := aRollback(t, "  on_gap: halt\n")
	p.eventually("the range is halted", func() bool {
		st := p.status()
		return !st.Ready && len(st.Ranges) == 1 && st.Ranges[0].State == "halted" && st.Ranges[0].Hint != ""
	})
	s.box.SetReply(nil)
	s.expect("saw PUT x=1", "saw PUT x=2")
	if got := p.metric("keyhook_gaps_total"); got != "1" {
		t.Errorf("keyhook_gaps_total is %s", got)
	}
}

// Unless it is asked to halt it goes on: what the key holds now is told, behind
// what was owed of it, and with an id of its own.
func TestAHistoryThatWasRolledBackIsRepaired(t *testing.T) {
	s, p := aRollback(t, "")
	p.eventually("the gap is repaired", func() bool {
		st := p.status()
		return st.Ready && st.Epoch == 1 && st.Ranges[0].Gap != nil && st.Ranges[0].Gap.Reason == "rolled_back"
	})
	s.box.SetReply(nil)
	s.expect("saw PUT x=1", "saw PUT x=2", "saw PUT x=1")
	ids := make(map[string]bool)
	for _, r := range s.box.Requests() {
		ids[r.ID] = true
	}
	if len(ids) != 3 {
		t.Errorf("%d ids", len(ids))
	}
	if got := p.metric("keyhook_gaps_total"); got != "1" {
		t.Errorf("keyhook_gaps_total is %s", got)
	}
}

// aRollback runs keyhook over one: x=1 was delivered, x=2 is owed, and etcd is
// where it was between the two.
func aRollback(t *testing.T, etcd string) (*site, *process) {
	t.Helper()
	s := newSite(t)
	s.configure(etcd)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	p := s.up()
	s.put("/a/x", "1")
	s.expect("saw PUT x=1")
	saved := s.etcd.Save()
	s.box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Status: http.StatusServiceUnavailable} })
	s.put("/a/x", "2")
	p.eventually("it is owed", func() bool { return p.metric(`keyhook_owed{sink="a-sink"}`) == "1" })
	s.etcd.Restore(saved)
	return s, p
}
