package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// lost is a rule that tells of instances that are not back within a span.
func (s *site) lost(span time.Duration) string {
	return fmt.Sprintf(`
sinks:
  - name: pager
    webhook: {url: %s/pager}
    retry: {initial: 50ms, max: 100ms, jitter: 0}
rules:
  - name: lost
    keys: /i/{instance}
    when: event.type == "DELETE"
    for: %s
    send: {sink: pager, body: '"lost " + params.instance'}
`, s.box.URL(), span)
}

// waiting returns how many deliveries wait for their time.
func (p *process) waiting() (n int64) {
	for _, k := range p.status().Sinks {
		n += k.Waiting
	}
	return n
}

func (s *site) remove(key string) {
	s.t.Helper()
	if _, err := s.etcd.Client().Delete(s.t.Context(), key); err != nil {
		s.t.Fatal(err)
	}
}

// Two instances are lost, keyhook is down, and one of them comes back meanwhile:
// the other one is told of, and that it is due long since when keyhook is back
// changes nothing.
func TestAnInstanceThatIsNotBack(t *testing.T) {
	s := newSite(t)
	told := []string{}
	for span := 2 * time.Second; ; span *= 2 {
		s.write("rules/r.yaml", s.lost(span))
		p := s.up()
		s.put("/i/a", "1")
		s.put("/i/b", "1")
		s.remove("/i/a")
		s.remove("/i/b")
		p.eventually("both are held, or gone out", func() bool { return p.waiting() == 2 || len(s.bodies()) > len(told) })
		p.stop()
		if early := s.bodies(); len(early) > len(told) {
			told = early // this machine took longer than the span to get here
			continue
		}
		s.put("/i/b", "2")

		p = s.up()
		s.expect(append(told, "lost a")...)
		p.eventually("nothing waits", func() bool { return p.waiting() == 0 })
		s.expect(append(told, "lost a")...)
		return
	}
}

// What is due goes out although nothing happens in etcd that would show how far
// it has been read; and other keys that change do not hold it up for long.
func TestAnInstanceThatIsLostInAQuietCluster(t *testing.T) {
	s := newSite(t)
	s.write("rules/r.yaml", s.lost(10*time.Millisecond))
	p := s.up()
	s.put("/i/a", "1")
	s.remove("/i/a")
	s.expect("lost a")

	s.put("/i/b", "1")
	s.remove("/i/b")
	s.put("/elsewhere", "moves etcd's revision on")
	s.expect("lost a", "lost b")
	p.eventually("nothing is owed", func() bool {
		_, list := p.get("/api/v1/owed")
		return list == ""
	})
	p.eventually("nothing waits", func() bool { return p.waiting() == 0 })
}

// While etcd is out of reach nobody knows whether the instance is back.
func TestAnInstanceThatMayBeBack(t *testing.T) {
	s := newSite(t)
	s.write("rules/r.yaml", s.lost(time.Hour))
	p := s.up()
	s.put("/i/a", "1")
	s.remove("/i/a")
	p.eventually("it is held", func() bool { return p.waiting() == 1 })
	if owed := p.metric(`keyhook_owed{sink="pager"}`); owed != "0" {
		t.Errorf("what may still be cancelled counts as owed: %s", owed)
	}
	if _, list := p.get("/api/v1/owed"); strings.Count(list, "\n") != 1 || !strings.Contains(list, `"due_at"`) {
		t.Errorf("keyhook owed list shows %q", list)
	}
	p.stop()
	p = s.up()
	if n := p.waiting(); n != 1 {
		t.Errorf("after a restart %d deliveries wait", n)
	}
	s.put("/i/a", "2")
	p.eventually("it is cancelled", func() bool { return p.waiting() == 0 })
	if got := p.metric(`keyhook_deliveries_total{outcome="cancelled",rule="lost",sink="pager"}`); got != "1" {
		t.Errorf("%s cancelled", got)
	}
	s.expect()
}

// Of many changes in an hour the first goes out at once, and the latest at its
// end; which is now, if the rule no longer asks for that.
func TestNotMoreThanOneInAnHour(t *testing.T) {
	s := newSite(t)
	rule := func(every string) string {
		return fmt.Sprintf(`
sinks: [{name: chat, webhook: {url: %s/chat}}]
rules:
  - name: digest
    keys: /d/{rest...}
    %s
    send: {sink: chat, body: 'event.value'}
`, s.box.URL(), every)
	}
	s.write("rules/r.yaml", rule("every: 1h"))
	p := s.up()
	for _, value := range []string{"1", "2", "3"} {
		s.put("/d/k", value)
	}
	s.expect("1")
	p.eventually("the latest waits", func() bool {
		return p.metric(`keyhook_deliveries_total{outcome="superseded",rule="digest",sink="chat"}`) == "1" && p.waiting() == 1
	})
	p.stop()

	p = s.up()
	s.put("/d/k", "4")
	p.eventually("the latest took its place", func() bool {
		return p.metric(`keyhook_deliveries_total{outcome="superseded",rule="digest",sink="chat"}`) == "1" && p.waiting() == 1
	})
	s.expect("1")
	s.write("rules/r.yaml", rule(""))
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	s.expect("1", "4")
}

// A rule and its sink are renamed while something is owed, by a reload and by a
// restart.
func TestRenamedRulesAndSinksKeepWhatTheyOwe(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%t", restart), func(t *testing.T) {
			s := newSite(t)
			s.write("rules/r.yaml", `
sinks: [{name: old-sink, webhook: {url: "http://127.0.0.1:1/"}, retry: {initial: 20ms, max: 20ms}, breaker: off}]
rules: [{name: old-rule, keys: "/k/{rest...}", send: {sink: old-sink, body: 'event.value'}}]
`)
			p := s.up()
			s.put("/k/a", "1")
			s.put("/k/a", "2")
			p.eventually("they are owed", func() bool { return p.metric(`keyhook_owed{sink="old-sink"}`) == "2" })
			if restart {
				p.stop()
			}
			s.write("rules/r.yaml", fmt.Sprintf(`
sinks: [{name: new-sink, was: old-sink, webhook: {url: %s/}, retry: {initial: 20ms, max: 20ms}}]
rules: [{name: new-rule, was: old-rule, keys: "/k/{rest...}", send: {sink: new-sink, body: 'event.value'}}]
`, s.box.URL()))
			if restart {
				p = s.up()
			} else if err := p.awaitReload(); err != nil {
				t.Fatal(err)
			}
			s.put("/k/a", "3")
			s.expect("1", "2", "3")
			p.eventually("it counts under the new names", func() bool {
				return p.metric(`keyhook_deliveries_total{outcome="delivered",rule="new-rule",sink="new-sink"}`) == "3"
			})
		})
	}
}
