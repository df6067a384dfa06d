package app_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keyhook/internal/inbox"
	"keyhook/internal/strictyaml"
)

func TestNewRulesRunFromTheNextChangeOn(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "old"))
	p := s.up()
	s.put("/a/x", "1")
	s.expect("old PUT x=1")

	s.write("rules/a.yaml", s.rule("a", "/a/", "new"))
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	s.put("/a/x", "2")
	s.expect("old PUT x=1", "new PUT x=2")
}

func TestARuleForOtherKeysIsWatchedFromThenOn(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	p := s.up()
	s.put("/b/before", "not delivered: start is now")

	s.write("rules/b.yaml", s.rule("b", "/b/", "saw"))
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	p.eventually("both ranges are watched", func() bool {
		st := p.status()
		return st.Ready && len(st.Ranges) == 2
	})
	s.put("/b/x", "1")
	s.put("/a/x", "2")
	if err := s.box.Await(t.Context(), func(c inbox.Counts) bool { return c.Acknowledged == 2 }); err != nil {
		t.Fatal(err)
	}

	if err := os.Remove(filepath.Join(s.dir, "rules", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	p.eventually("one range is left", func() bool { return len(p.status().Ranges) == 1 })
	if !strings.Contains(s.logs.String(), "level=WARN msg=\"a range is no longer watched: its position and what was remembered of its keys are given up\" range=/b/ position=") {
		t.Error("there is no warning")
	}
}

// The same at a start: what the rules of the last one watched is given up, and
// that is said.
func TestAStartWithoutARuleGivesItsRangeUp(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.write("rules/b.yaml", s.rule("b", "/b/", "saw"))
	p := s.up()
	p.stop()
	if strings.Contains(s.logs.String(), "given up") {
		t.Error("a warning, and nothing was given up")
	}
	if err := os.Remove(filepath.Join(s.dir, "rules", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	s.up()
	if !strings.Contains(s.logs.String(), "are given up\" range=/b/ position=") {
		t.Error("there is no warning")
	}
}

// What is wrong with new files, and what is said about it. The running rules go
// on each time.
func TestFilesThatCannotRunChangeNothing(t *testing.T) {
	s := newSite(t)
	good := s.rule("a", "/a/", "saw")
	sinksOnly, _, _ := strings.Cut(good, "rules:")
	s.write("rules/a.yaml", good)
	p := s.up()
	var want []string

	for _, bad := range []struct{ what, text, problem string }{
		{"a typo", strings.Replace(good, "event.value", "event.vlaue", 1), "vlaue"},
		{"an unknown sink", strings.Replace(good, "sink: a-sink", "sink: b-sink", 1), "b-sink"},
		{"a file that was emptied", "", "the file is empty"},
		{"a file that was cut off", good[:len(good)*2/3], ""},
		{"no rule any more", sinksOnly, "no rule"},
		{"a webhook that cannot be", strings.Replace(good, "http://", "ftp://", 1), "http"},
		{"no file any more", "(remove)", "no file matches"},
	} {
		if bad.text == "(remove)" {
			if err := os.Remove(filepath.Join(s.dir, "rules", "a.yaml")); err != nil {
				t.Fatal(err)
			}
		} else {
			s.write("rules/a.yaml", bad.text)
		}
		err := p.awaitReload()
		var problems strictyaml.Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), bad.problem) {
			t.Fatalf("%s: got %v", bad.what, err)
		}
		if st := p.status(); !st.Rules.Stale || st.Rules.Error != err.Error() || !st.Ready {
			t.Errorf("%s: the status says %+v", bad.what, st.Rules)
		}
		if got := p.metric("keyhook_rules_stale"); got != "1" {
			t.Errorf("%s: keyhook_rules_stale is %s", bad.what, got)
		}
		s.put("/a/x", bad.what)
		want = append(want, "saw PUT x="+bad.what)
		s.expect(want...)
	}

	s.write("rules/a.yaml", good)
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	if st := p.status(); st.Rules.Stale || st.Rules.Error != "" || p.metric("keyhook_rules_stale") != "0" {
		t.Errorf("mended, and still stale: %+v", st.Rules)
	}
	if status, _ := p.get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz says %d", status)
	}
}

func TestARemovedSinkStillDeliversWhatItOwes(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.write("rules/b.yaml", s.rule("b", "/b/", "saw"))
	s.box.SetReply(func(r inbox.Request) inbox.Reply { return inbox.Reply{Status: http.StatusServiceUnavailable} })
	p := s.up()
	s.put("/b/x", "1")
	s.put("/b/x", "2")
	p.eventually("they are owed", func() bool { return p.metric(`keyhook_owed{sink="b-sink"}`) == "2" })

	if err := os.Remove(filepath.Join(s.dir, "rules", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	s.box.SetReply(nil)
	s.expect("saw PUT x=1", "saw PUT x=2")
	p.eventually("nothing is owed any more", func() bool {
		for _, k := range p.status().Sinks {
			if k.Owed > 0 || k.InFlight > 0 || k.Configured != (k.Name == "a-sink") {
				return false
			}
		}
		return true
	})
}

// A change of what a pending retry was rendered from does not change it.
func TestAPendingRetryKeepsItsBody(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "old"))
	s.box.SetReply(func(r inbox.Request) inbox.Reply { return inbox.Reply{Status: http.StatusServiceUnavailable} })
	p := s.up()
	s.put("/a/x", "1")
	if err := s.box.Await(t.Context(), func(c inbox.Counts) bool { return c.Refused > 0 }); err != nil {
		t.Fatal(err)
	}
	s.write("rules/a.yaml", s.rule("a", "/a/", "new"))
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	s.put("/a/x", "2")
	s.box.SetReply(nil)
	s.expect("old PUT x=1", "new PUT x=2")
}

// SIGHUP reads secrets again that the files only name.
func TestSIGHUPReadsWhatTheFilesName(t *testing.T) {
	s := newSite(t)
	s.write("token", "first")
	s.write("rules/a.yaml", strings.Replace(s.rule("a", "/a/", "saw"),
		"/a}", "/a, headers: {X-Token: {file: ../token}}}", 1))
	p := s.up()
	s.put("/a/x", "1")
	s.expect("saw PUT x=1")

	s.write("token", "second")
	p.hup <- syscall.SIGHUP
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	s.put("/a/x", "2")
	s.expect("saw PUT x=1", "saw PUT x=2")
	for i, want := range []string{"first", "second"} {
		if got := s.box.Requests()[i].Header.Get("X-Token"); got != want {
			t.Errorf("request %d has the token %q, want %q", i+1, got, want)
		}
	}
}

// Rules can change while etcd has never answered.
func TestReloadsBeforeEtcdIsThere(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.etcd.Stop()
	p := s.start()
	s.write("rules/a.yaml", s.rule("b", "/b/", "saw"))
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	s.etcd.Start()
	p.awaitReady()
	if st := p.status(); len(st.Ranges) != 1 || st.Ranges[0].Range != "/b/" {
		t.Errorf("watched: %+v", st.Ranges)
	}
	s.put("/b/x", "1")
	s.expect("saw PUT x=1")
}

// Reasons are for people, with one separated from the other.
func TestSaysWhyItIsNoLongerReady(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.write("rules/b.yaml", s.rule("b", "/b/", "saw"))
	p := s.up()
	s.etcd.Stop()
	p.eventually("it is said", func() bool { return strings.Contains(s.logs.String(), "no longer ready") })
	_, line, _ := strings.Cut(s.logs.String(), `msg="no longer ready" reasons="`)
	if line, _, _ = strings.Cut(line, "\n"); line == "" || strings.HasPrefix(line, "[") {
		t.Errorf("the reasons are %q", line)
	}
}

func TestSaysThatTheConfigurationNeedsAStart(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	p := s.up()
	s.configure("  start: snapshot")
	p.eventually("it is said", func() bool {
		return strings.Contains(s.logs.String(), "it takes effect at the next start")
	})
	if len(p.reloaded) > 0 {
		t.Error("the rules were reloaded")
	}

	s.write("keyhook.yaml", "etcd:\n  strat: now\n")
	p.eventually("it is said that it does not parse", func() bool {
		log := s.logs.String()
		return strings.Contains(log, "level=ERROR msg=\"the configuration was edited and cannot be read: the next start would fail\"") &&
			strings.Contains(log, "keyhook.yaml:2:3 problem=\"unknown field")
	})
	before := len(s.logs.String())
	p.hup <- syscall.SIGHUP // it says so whenever somebody asks
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	if log := s.logs.String()[before:]; !strings.Contains(log, "cannot be read") || !strings.Contains(log, "are as they were") {
		t.Errorf("it logs\n%s", log)
	}
}
