package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time as people write it: "1s", "1h30m", "7d". It is
// never negative.
type Duration time.Duration

// Std returns d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// ParseDuration reads what [time.ParseDuration] does, and days ("d") before all
// else.
func ParseDuration(s string) (Duration, error) {
	wrong := fmt.Errorf("%q is not a duration", s)
	rest, total := s, time.Duration(0)
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n >= 0) || n*24 > math.MaxInt64/float64(time.Hour) || strings.ContainsAny(days, "eExXnNiI_+") {
			return 0, wrong
		}
		total, rest = time.Duration(n*24*float64(time.Hour)), after
		if rest == "" {
			return Duration(total), nil
		}
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil:
		return 0, wrong
	case d < 0:
		return 0, fmt.Errorf("%q is negative", s)
	case total+d < total:
		return 0, wrong
	}
	return Duration(total + d), nil
}

// DecodeYAML implements [Decoder].
func (d *Duration) DecodeYAML(n *Node) {
	const hint = "write a number with its unit, such as 500ms, 10s, 1h30m or 7d"
	n.doc.show(n.at)
	switch n.Kind() {
	case String:
	case Number:
		if n.Text() == "0" {
			*d = 0
			return
		}
		n.Problemf(hint, "%q is not a duration: the unit is missing", n.Text())
		return
	default:
		n.Problemf(hint, "expected a duration, found %s", n.describe())
		return
	}
	v, err := ParseDuration(n.Text())
	if err != nil {
		n.Problemf(hint, "%s", err)
		return
	}
	*d = v
}

// Rate is how many times a second something may happen. It is written "100/s",
// "30/m" or "5/h", and is above 0.
type Rate float64

// PerSecond returns r as a number.
func (r Rate) PerSecond() float64 { return float64(r) }

// ParseRate reads a rate.
func ParseRate(s string) (Rate, error) {
	count, unit, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("%q is not a rate", s)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(count), 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, fmt.Errorf("%q is not a rate", s)
	}
	if n <= 0 {
		return 0, errors.New("a rate must be above 0")
	}
	switch strings.TrimSpace(unit) {
	case "s":
		return Rate(n), nil
	case "m":
		return Rate(n / 60), nil
	case "h":
		return Rate(n / 3600), nil
	default:
		return 0, fmt.Errorf("%q is not a rate", s)
	}
}

// DecodeYAML implements [Decoder].
func (r *Rate) DecodeYAML(n *Node) {
	const hint = "write a number a second, minute or hour, such as 100/s, 30/m or 5/h"
	n.doc.show(n.at)
	if k := n.Kind(); k != String && k != Number {
		n.Problemf(hint, "expected a rate, found %s", n.describe())
		return
	}
	v, err := ParseRate(n.Text())
	if err != nil {
		n.Problemf(hint, "%s", err)
		return
	}
	*r = v
}
