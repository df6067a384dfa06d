package build

import (
	"fmt"
	"strings"
)

// Markdown returns a table of every field below n, one for each map, with
// headings of a level. title names the root.
func Markdown(title string, level int, n *Node) string {
	var w markdownWriter
	w.table(title, level, "", n)
	return w.String()
}

type markdownWriter struct{ strings.Builder }

// table writes the fields of n, and then those of the maps in it.
func (w *markdownWriter) table(title string, level int, path string, n *Node) {
	fmt.Fprintf(w, "%s %s\n\n", strings.Repeat("#", level), title)
	switch {
	case n.OneOf != nil:
		fmt.Fprintf(w, "Exactly one of %s.\n\n", names(n.OneOf))
	case n.MayOne != nil:
		fmt.Fprintf(w, "At most one of %s.\n\n", names(n.MayOne))
	}
	w.WriteString("| Field | Type | Default | Meaning |\n|---|---|---|---|\n")
	for _, f := range n.Fields {
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", f.Name, cell(f.typ()), cell(f.absent()), cell(f.Doc))
	}
	w.WriteString("\n")
	for _, f := range n.Fields {
		if inner, suffix := f.Node.inner(); inner != nil {
			below := path + f.Name + suffix
			w.table("`"+below+"`", min(level+1, 4), below+".", inner)
		}
	}
}

// inner returns the map in a value, and how its path goes on.
func (n *Node) inner() (*Node, string) {
	switch n.Kind {
	case Object:
		return n, ""
	case List, OneOrList:
		inner, suffix := n.Elem.inner()
		return inner, "[]" + suffix
	case Named:
		inner, suffix := n.Elem.inner()
		return inner, ".*" + suffix
	case Either:
		for _, e := range n.Either {
			if inner, suffix := e.inner(); inner != nil {
				return inner, suffix
			}
		}
	}
	return nil, ""
}

// typ says what may be written.
func (f *Field) typ() string {
	if f.Enum != nil {
		return names(f.Enum)
	}
	text := f.Node.typ()
	switch {
	case f.Min != "" && f.Max != "":
		text += fmt.Sprintf(", %s to %s", f.Min, f.Max)
	case f.Min != "":
		text += ", from " + f.Min
	case f.Max != "":
		text += ", up to " + f.Max
	}
	return text
}

func (n *Node) typ() string {
	switch n.Kind {
	case List:
		return "list of " + plural(n.Elem.typ())
	case OneOrList:
		one := n.Elem.typ()
		return one + ", or a list of " + plural(one)
	case Named:
		return plural(n.Elem.typ()) + " by name"
	case Word:
		return "`" + n.Word + "`"
	case Either:
		var all []string
		for _, e := range n.Either {
			all = append(all, e.typ())
		}
		last := len(all) - 1
		return strings.Join(all[:last], ", ") + " or " + all[last]
	default:
		return string(n.Kind)
	}
}

func plural(s string) string { return strings.Replace(s+"s", "lists of", "list of", 1) }

// absent says what holds where the field is left out.
func (f *Field) absent() string {
	switch {
	case f.Required:
		return "required"
	case f.Default != "" && f.Unset != "":
		return "`" + f.Default + "` (" + f.Unset + ")"
	case f.Default != "":
		return "`" + f.Default + "`"
	case f.Unset != "":
		return f.Unset
	case f.Node.Kind == Object:
		return ""
	default:
		return "none"
	}
}

func names(all []string) string { return "`" + strings.Join(all, "`, `") + "`" }

// cell keeps text within its cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
