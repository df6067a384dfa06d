package admin

import (
	"fmt"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"keyhook/internal/backlog"
)

// values writes a filter as a query. Any bytes may stand in a prefix there.
func values(f *backlog.Filter) url.Values {
	q := url.Values{}
	lists := map[string][]string{"rule": f.Rules, "send": f.Sends, "sink": f.Sinks, "reason": f.Reasons}
	for name, all := range lists {
		if len(all) > 0 {
			q[name] = all
		}
	}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("key_prefix", f.KeyPrefix+string(f.KeyPrefixBase64))
	set("error", f.Error)
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	for name, n := range map[string]int64{"min_revision": f.MinRevision, "max_revision": f.MaxRevision} {
		if n != 0 {
			q.Set(name, strconv.FormatInt(n, 10))
		}
	}
	return q
}

// filterOf reads what values wrote.
func filterOf(q url.Values) (f backlog.Filter, err error) {
	for name, all := range q {
		switch name {
		case "rule":
			f.Rules = all
		case "send":
			f.Sends = all
		case "sink":
			f.Sinks = all
		case "reason":
			f.Reasons = all
		default:
			if len(all) != 1 {
				return f, fmt.Errorf("%q is given %d times", name, len(all))
			}
			if err := setField(&f, name, all[0]); err != nil {
				return f, err
			}
		}
	}
	err = f.Check()
	return f, err
}

func setField(f *backlog.Filter, name, value string) (err error) {
	switch name {
	case "key_prefix":
		if utf8.ValidString(value) {
			f.KeyPrefix = value
		} else {
			f.KeyPrefixBase64 = []byte(value)
		}
	case "error":
		f.Error = value
	case "since":
		f.Since, err = time.Parse(time.RFC3339, value)
	case "until":
		f.Until, err = time.Parse(time.RFC3339, value)
	case "min_revision":
		f.MinRevision, err = strconv.ParseInt(value, 10, 64)
	case "max_revision":
		f.MaxRevision, err = strconv.ParseInt(value, 10, 64)
	default:
		return fmt.Errorf("there is no field %q to select by", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
