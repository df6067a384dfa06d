package rules

import "keyhook"

// Written is a rule as its file says it, for comparisons: what is not written is
// left out, so that writing a default is no difference.
type Written struct {
	Name   string
	Was    []string
	Fields []WrittenField // by their place in the reference
}

// WrittenField is one field of a rule.
type WrittenField struct {
	Name string // as in "when", "vars.scope" or "send pager: body"
	Text string
	// Expression: the text is CEL, and may be long or hold what not everybody
	// should see.
	Expression bool
}

// Written returns all rules as they are written, in the order of [Set.Rules].
func (s *Set) Written() []Written {
	all := make([]Written, len(s.rules))
	for i, r := range s.rules {
		all[i] = r.written()
	}
	return all
}

func (r *rule) written() Written {
	w := Written{Name: r.name, Was: r.was}
	w.text("description", r.description)
	for _, p := range r.patterns {
		w.text("keys", p.source)
	}
	w.expression("when", r.when)
	for _, v := range r.vars {
		w.expression("vars."+v.name, v.expr)
	}
	if r.timing.For > 0 {
		w.text("for", r.timing.For.String())
	}
	if r.timing.Every > 0 {
		w.text("every", r.timing.Every.String())
	}
	w.expression("per", r.per)
	if r.grouped {
		w.text("group", wholeRevision)
	}
	if r.gaps {
		w.text("gaps", "true")
	}
	if r.order == keyhook.OrderNone {
		w.text("order", "none")
	}
	if r.onFailure == keyhook.Supersede {
		w.text("on_failure", "supersede")
	}
	for _, s := range r.sends {
		of := "send " + s.name + ": "
		w.text(of+"sink", s.sink)
		w.expression(of+"body", s.body)
		for _, h := range s.headers {
			w.expression(of+"headers."+h.name, h.value)
		}
		w.expression(of+"subject", s.subject)
	}
	return w
}

func (w *Written) text(name, text string) {
	if text != "" {
		w.Fields = append(w.Fields, WrittenField{Name: name, Text: text})
	}
}

func (w *Written) expression(name string, x *expression) {
	if x != nil {
		w.Fields = append(w.Fields, WrittenField{Name: name, Text: x.source.Value, Expression: true})
	}
}
