package rules

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// twins finds rules of which one sends what another one sends anyway.
func (n *linter) twins() {
	type pattern struct{ content, keys string }
	exact := map[pattern][]*rule{}    // by what they send and a pattern
	covering := map[pattern][]*rule{} // by what they send and the text before {x...}
	for _, r := range n.set.rules {
		content := r.content()
		if content == "" {
			continue
		}
		for _, p := range r.patterns {
			exact[pattern{content, p.source}] = append(exact[pattern{content, p.source}], r)
			if p.rest && len(p.captures) == 1 {
				covering[pattern{content, p.literal}] = append(covering[pattern{content, p.literal}], r)
			}
		}
	}
	for _, r := range n.set.rules {
		content := r.content()
		if content == "" || len(r.patterns) != 1 {
			continue
		}
		p := r.patterns[0]
		candidates := slices.Clone(exact[pattern{content, p.source}])
		for i := range len(p.literal) + 1 {
			candidates = append(candidates, covering[pattern{content, p.literal[:i]}]...)
		}
		for _, o := range candidates {
			if o == r || !r.implies(o) {
				continue
			}
			if o.implies(r) && len(o.patterns) == 1 && o.patterns[0].source == p.source {
				if o.position.Compare(r.position) < 0 {
					n.report(lintDuplicate, r.position, "remove one of them", "rule %q does the same as rule %q, at %s", r.name, o.name, o.position)
					break
				}
				continue
			}
			n.report(lintShadowed, r.position, "remove it, or make the other one leave its changes out",
				"whatever rule %q sends, rule %q at %s sends as well", r.name, o.name, o.position)
			break
		}
	}
}

// content is what a rule sends and when, but for keys and condition; "" if it
// depends on what is its own.
func (r *rule) content() string {
	if r.grouped || len(r.vars) > 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v", r.timing)
	for _, s := range r.sends {
		fmt.Fprintf(&b, "\x00%s", s.sink)
		for _, x := range s.expressions() {
			fmt.Fprintf(&b, "\x01%s %s", x.what, strings.TrimSpace(x.source.Value))
			if strings.Contains(x.source.Value, nameParams) {
				fmt.Fprintf(&b, "\x02%s", r.patterns[0].source)
			}
		}
	}
	return b.String()
}

// implies reports whether the condition of o holds wherever that of r does, as
// far as their texts tell.
func (r *rule) implies(o *rule) bool {
	switch {
	case o.when == nil:
		return true
	case r.when == nil:
		return false
	default:
		return strings.Join(strings.Fields(o.when.source.Value), " ") == strings.Join(strings.Fields(r.when.source.Value), " ")
	}
}

// sinks finds what is wrong with sinks that could be made.
func (n *linter) sinks() {
	used := map[string]bool{}
	for _, r := range n.set.rules {
		for _, s := range r.sends {
			used[s.sink] = true
		}
	}
	for _, s := range n.set.sinks {
		used[s.DeadLetter] = true
	}
	for i := range n.set.sinks {
		s := &n.set.sinks[i]
		if !used[s.Name] {
			n.report(lintSink, s.Position, "remove it, or send to it", "nothing is sent to sink %q", s.Name)
		}
		n.horizon(s)
		n.loop(s)
	}
}

// shortHorizon is how long a receiver may well be away: to restart it takes as
// long.
const shortHorizon = time.Minute

// horizon finds retry limits that contradict each other, or give up before a
// receiver has restarted.
func (n *linter) horizon(s *SinkSpec) {
	r := s.Retry
	if r.MaxAge > 0 && r.MaxAge < r.Initial {
		n.report(lintRetry, s.Position, "raise max_age", "sink %q never retries: max_age (%s) is over before the first interval (%s)", s.Name, r.MaxAge, r.Initial)
		return
	}
	if r.MaxAttempts == 0 {
		if r.MaxAge > 0 && r.MaxAge < shortHorizon {
			n.report(lintRetry, s.Position, "raise max_age", "sink %q gives up after %s: a receiver that restarts may be away for longer", s.Name, r.MaxAge)
		}
		return
	}
	total, interval := time.Duration(0), r.Initial
	for range min(r.MaxAttempts-1, 100_000) {
		total += interval
		interval = min(time.Duration(float64(interval)*r.Multiplier), r.Max)
		if r.MaxAge > 0 && total > r.MaxAge {
			n.report(lintRetry, s.Position, "lower one of them, or remove it", "sink %q never makes %d attempts: max_age (%s) is over before", s.Name, r.MaxAttempts, r.MaxAge)
			return
		}
	}
	if total < shortHorizon {
		n.report(lintRetry, s.Position, "raise max_attempts, or leave it at 0 and rely on max_age",
			"sink %q gives up after %d attempts, some %s: a receiver that restarts may be away for longer", s.Name, r.MaxAttempts, total)
	}
}

// loop finds webhooks that may write to the etcd that is watched.
func (n *linter) loop(s *SinkSpec) {
	if s.Webhook == nil {
		return
	}
	u, err := url.Parse(s.Webhook.URL.Reveal())
	if err != nil {
		return
	}
	ours := slices.ContainsFunc(n.opts.Etcd, func(endpoint string) bool {
		e, err := url.Parse(endpoint)
		return err == nil && e.Host != "" && hostPort(e) == hostPort(u)
	})
	gateway := strings.HasPrefix(u.Path, "/v3/kv/") || strings.HasPrefix(u.Path, "/v3/lease/")
	switch {
	case ours:
		n.report(lintLoop, s.Position, "see to it that what it writes lies outside of the keys of the rules that send to it",
			"sink %q is the etcd that is watched: what it writes comes back as a change", s.Name)
	case gateway:
		n.report(lintLoop, s.Position, "see to it that it is another etcd, or that it writes outside of the keys of the rules",
			"sink %q writes to an etcd: if that is the one that is watched, what it writes comes back as a change", s.Name)
	}
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.ToLower(u.Hostname())
	if host == "localhost" || host == "::1" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
