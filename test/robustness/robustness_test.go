package robustness

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyhook/test/lab"
	"keyhook/test/oracle"
)

func scenarios() []scenario {
	members := []string{"kill member", "kill majority", "kill all members", "suspend member", "suspend leader", "suspend majority", "isolate member", "isolate leader", "move leader"}
	networks := []string{"cut one", "cut all", "sever all", "blackhole one", "blackhole all", "delay"}
	return []scenario{
		{name: "members", faults: members, steps: 10},
		{name: "network", faults: networks, steps: 9},
		{name: "keyhook", faults: []string{"kill keyhook"}, steps: 10},
		{name: "compaction behind the position", faults: append([]string{"compact behind", "compact behind", "compact behind", "move leader"}, networks...), steps: 14},
		{name: "compaction ahead of the position", faults: []string{"fall behind", "compaction race", "compact head", "kill keyhook"}, steps: 8, gaps: true},
		{name: "backlog", faults: []string{"backlog", "backlog", "cut all", "kill member", "isolate member", "suspend leader"}, steps: 7},
		{name: "backlog and compaction", faults: []string{"backlog", "compact head", "fall behind"}, steps: 6, gaps: true},
		{name: "restore", faults: []string{restoring, "move leader", "sever all"}, steps: 3, gaps: true},
		{name: "restore unseen", faults: []string{restoringUnseen, "move leader", "sever all"}, steps: 3, gaps: true},
		mixed(10),
	}
}

// mixed has everything.
func mixed(steps int) scenario {
	return scenario{name: "mixed", faults: []string{
		"kill member", "kill majority", "suspend leader", "suspend member", "isolate member", "isolate leader", "move leader",
		"cut all", "sever all", "blackhole all", "delay",
		"compact behind", "compact head", "fall behind", "compaction race",
		"kill keyhook", "kill keyhook", restoring,
	}, steps: steps, gaps: true}
}

// Everything at once, for a short while, against the newest etcd.
func TestMixed(t *testing.T) {
	programs := etcdPrograms(t, lab.LatestEtcd)
	for _, seed := range seeds(t, 1) {
		play(t, mixed(5), seed, programs, 5*time.Minute)
	}
}

// Every scenario, several times.
func TestScenarios(t *testing.T) {
	if !long() {
		t.Skip("make robustness")
	}
	programs := etcdPrograms(t, lab.LatestEtcd)
	for _, s := range scenarios() {
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
			for _, seed := range seeds(t, 2) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, s, seed, programs, 10*time.Minute) })
			}
		})
	}
}

// Everything at once against every version of etcd.
func TestVersions(t *testing.T) {
	if !long() {
		t.Skip("make robustness")
	}
	for _, version := range lab.EtcdVersions() {
		t.Run(version, func(t *testing.T) {
			programs := etcdPrograms(t, version)
			for _, seed := range seeds(t, 2) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, mixed(10), seed, programs, 10*time.Minute) })
			}
		})
	}
}

// play runs a scenario and reports whatever it breaks.
func play(t *testing.T, s scenario, seed uint64, programs lab.EtcdPrograms, limit time.Duration) {
	t.Helper()
	steps := s.plan(seed)
	r := setUp(t, s, seed, programs, limit)
	var broken []string
	err := r.cause(steps)
	if err == nil {
		err = r.settle()
	}
	if err != nil {
		broken = append(broken, err.Error())
	}
	verdicts, err := r.judge(t)
	if err != nil {
		broken = append(broken, err.Error())
	}
	broken = append(broken, verdicts...)
	t.Logf("%s, etcd %s, KEYHOOK_TEST_SEED=%d\n%s", s.name, programs.Version, seed, r.story)
	if len(broken) == 0 {
		return
	}
	dir, err := r.artefacts(broken)
	if err != nil {
		t.Errorf("artefacts: %v", err)
	}
	const shown = 40
	if more := len(broken) - shown; more > 0 {
		broken = append(broken[:shown:shown], fmt.Sprintf("and %d more", more))
	}
	t.Errorf("%s, etcd %s: KEYHOOK_TEST_SEED=%d\n%s\nartefacts: %s",
		s.name, programs.Version, seed, strings.Join(broken, "\n"), dir)
}

// judge stops everything and holds what arrived against etcd's history.
func (r *testRun) judge(t *testing.T) (broken []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), 2*time.Minute)
	defer cancel()
	if r.keyhook.Running() {
		if st, err := r.keyhook.Status(ctx); err == nil {
			for _, sink := range st.Sinks {
				if sink.DeadLetters > 0 {
					broken = append(broken, fmt.Sprintf("%s: %d dead letters of %s", oracle.Reliable, sink.DeadLetters, sink.Name))
				}
			}
		}
		if code := r.keyhook.Stop(); code != 0 {
			broken = append(broken, fmt.Sprintf("keyhook ended with code %d", code))
		}
	} else {
		broken = append(broken, "keyhook does not run")
	}
	if err := r.receiver.AwaitHangup(ctx); err != nil {
		return broken, err
	}
	history, err := r.etcd.History(ctx)
	if err != nil {
		return broken, err
	}
	gaps, err := r.keyhook.Gaps()
	if err != nil {
		return broken, err
	}
	for _, s := range r.streams {
		stated, unfounded := r.gaps(gaps, s.prefix)
		broken = append(broken, unfounded...)
		if err := s.inbox.Err(); err != nil {
			broken = append(broken, fmt.Sprintf("%s: %v", oracle.Faithful, err))
		}
		report := oracle.Check(
			history.Under(func(key string) bool { return strings.HasPrefix(key, s.prefix) }),
			s.inbox.Attempts(),
			oracle.Promise{
				After: r.ready, Gaps: stated, Bookmarks: s.bookmarks(),
				ID:    &oracle.Identifier{Source: "/etcd/test", Rule: s.name, Send: s.name, FirstEpoch: r.firstly},
				Kills: r.kills, InFlight: concurrency, Lossy: true,
			})
		t.Logf("%s: %v, %d gaps", s.prefix, report, len(stated))
		for _, v := range report.Violations {
			broken = append(broken, s.prefix+" "+v.String())
		}
	}
	return broken, nil
}

// bookmarks returns what keyhook has stated of a range, in the order of time.
func (s *stream) bookmarks() []oracle.Bookmark {
	all := slices.Concat(s.marks, s.counted)
	slices.SortStableFunc(all, func(a, b oracle.Bookmark) int { return a.At.Compare(b.At) })
	return all
}

// gaps returns the gaps that keyhook says it repaired in a range, and what is
// wrong about them.
func (r *testRun) gaps(all []lab.Gap, prefix string) (stated []oracle.Gap, unfounded []string) {
	follows := 0 // the era whose history it is known to follow
	for _, g := range all {
		if g.Range != prefix {
			continue
		}
		r.story.tell("keyhook repaired %v, said at %s", g, g.Time.UTC().Format("15:04:05.000"))
		era := 0
		for _, at := range r.etcd.Restores() {
			if g.Time.After(at) {
				era++
			}
		}
		to := oracle.Moment{Era: era, Revision: g.To}
		from := oracle.Moment{Era: era, Revision: g.From}
		switch {
		case !r.scenario.gaps:
			unfounded = append(unfounded, fmt.Sprintf("%s: a gap where nothing can have made one: %v", oracle.Reliable, g))
		case (g.Reason == "rolled_back" || g.Reason == "diverged") && era > follows:
			from.Era, follows = follows, era
		case g.Reason == "rolled_back" && era > 0:
		case g.Reason == "compacted" && slices.ContainsFunc(r.compacted, func(c compaction) bool { return c.era == era && c.revision > g.From }):
		default:
			unfounded = append(unfounded, fmt.Sprintf("%s: nothing can have made this gap: %v", oracle.Reliable, g))
		}
		// A repair that was interrupted by a kill begins where it had begun.
		if last := len(stated) - 1; last >= 0 && from.Compare(stated[last].To) <= 0 {
			stated[last].To = to
			continue
		}
		stated = append(stated, oracle.Gap{From: from, To: to})
	}
	return stated, unfounded
}

// artefacts keeps all there is to know in a directory.
func (r *testRun) artefacts(broken []string) (dir string, err error) {
	parent := cmp.Or(os.Getenv("KEYHOOK_TEST_ARTEFACTS"), os.TempDir())
	if dir, err = os.MkdirTemp(parent, fmt.Sprintf("robustness-%s-%d-", strings.ReplaceAll(r.scenario.name, " ", "-"), r.seed)); err != nil {
		return "", err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "broken.txt"), []byte(strings.Join(broken, "\n")+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "story.txt"), []byte(r.story.String()+"\n"), 0o600),
		r.keyhook.Artefacts(dir), r.etcd.Artefacts(dir))
	for _, s := range r.streams {
		data, encoding := json.MarshalIndent(s.inbox.Attempts(), "", " ")
		err = errors.Join(err, encoding, os.WriteFile(filepath.Join(dir, s.name+"-attempts.json"), data, 0o600))
	}
	return dir, err
}
