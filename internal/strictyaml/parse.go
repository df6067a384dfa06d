package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const (
	// MaxFile bounds a file, in bytes.
	MaxFile = 16 << 20
	// maxExpansion bounds how many nodes aliases may add to a file.
	maxExpansion = 100_000
	maxSecret    = 1 << 20
)

// Environment is where secrets come from. A nil function means that of the
// operating system.
type Environment struct {
	LookupEnv func(name string) (string, bool)
	ReadFile  func(path string) ([]byte, error)
}

// Decode decodes the only document of data into the struct that into points
// to, and returns everything that is wrong with it, in order. path names the
// file in problems; relative paths in the file are relative to its directory.
func Decode(path string, data []byte, into any) Problems {
	return Environment{}.Decode(path, data, into)
}

// Decode is as the function of that name, with secrets from e.
func (e Environment) Decode(path string, data []byte, into any) Problems {
	_, problems := e.DecodeSource(path, data, into)
	return problems
}

// DecodeSource does what Decode does, and returns the file as well, so that what
// is found wrong with it later can be quoted.
func (e Environment) DecodeSource(path string, data []byte, into any) (*Source, Problems) {
	if e.LookupEnv == nil {
		e.LookupEnv = os.LookupEnv
	}
	if e.ReadFile == nil {
		e.ReadFile = readBounded
	}
	source := &Source{path: path, shown: map[int][]columns{}}
	d := &document{path: path, env: e, active: map[*yaml.Node]bool{}, source: source}
	root := d.parse(data)
	source.lines = d.lines
	if root == nil {
		source.showNames()
	} else if n := d.node(root); n != nil {
		n.decode(into)
	}
	d.problems.Sort()
	source.Quote(d.problems)
	return source, d.problems
}

// document is one file while it is being decoded.
type document struct {
	path     string
	env      Environment
	lines    []string
	source   *Source
	problems Problems
	expanded int                 // nodes that were reached through aliases
	active   map[*yaml.Node]bool // aliases that are being decoded
}

func (d *document) fail(line, column int, message, hint string) {
	d.problems = append(d.problems, Problem{Path: d.path, Line: line, Column: column, Message: message, Hint: hint})
}

// parse returns the root value, or nil after it has reported why there is none.
func (d *document) parse(data []byte) *yaml.Node {
	if len(data) > MaxFile {
		d.fail(1, 1, "the file is larger than 16 MiB", "")
		return nil
	}
	if !utf8.Valid(data) {
		line, column := firstAt(data, func(r rune, size int) bool { return r == utf8.RuneError && size == 1 })
		d.fail(line, column, "the file is not UTF-8", "save it as UTF-8")
		return nil
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	d.lines = strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")

	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithUniqueKeys(false))
	if err != nil {
		d.fail(1, 1, err.Error(), "")
		return nil
	}
	var first, second yaml.Node
	if err := loader.Load(&first); err != nil {
		d.syntax(err)
		return nil
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(err)
		return nil
	default:
		d.fail(second.Line, second.Column, "a second document begins here", "put everything into one document, or into several files")
		return nil
	}
	if first.Kind == yaml.DocumentNode && len(first.Content) == 1 {
		root := first.Content[0]
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			d.fail(1, 1, "the file is empty", "")
			return nil
		}
		d.checkTags(root)
		return root
	}
	d.fail(1, 1, "the file is empty", "")
	return nil
}

// checkTags reports tags that would change what a value is, and do not: nobody is
// to believe that !env X or !!binary was understood.
func (d *document) checkTags(raw *yaml.Node) {
	if raw.Style&yaml.TaggedStyle != 0 {
		switch tag := raw.ShortTag(); tag {
		case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		default:
			d.fail(raw.Line, raw.Column, "the tag "+tag+" means nothing here", "remove it; secrets are {env: NAME} or {file: PATH}")
		}
	}
	for _, c := range raw.Content {
		d.checkTags(c)
	}
}

// syntax reports an error of the YAML parser.
func (d *document) syntax(err error) {
	if errors.Is(err, io.EOF) {
		d.fail(1, 1, "the file is empty", "")
		return
	}
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		d.fail(1, 1, "not YAML: "+err.Error(), "")
		return
	}
	if strings.Contains(le.Message, "control characters are not allowed") {
		line, column := firstAt([]byte(strings.Join(d.lines, "\n")), isControl)
		d.fail(line, column, "not YAML: a control character", "remove it, or write it as an escape in double quotes")
		return
	}
	line, column := le.Mark.Line, le.Mark.Column
	message := "not YAML: " + le.Message
	if le.ContextMsg != "" && le.ContextMark.Line > 0 {
		message += " " + le.ContextMsg + ", which began at " +
			Position{Path: d.path, Line: le.ContextMark.Line, Column: le.ContextMark.Column}.String()
	}
	hint := ""
	switch {
	case d.atEnd(line, column):
		hint = "the file ends too early; was it cut off?"
	case strings.Contains(le.Message, "did not find expected ','") && d.atBrace(line, column):
		hint = `inside [ ] and { }, put a value that contains braces in quotes, such as "/a/{x}", or write the list as a block, each value on a line after "- "`
	case strings.Contains(le.Message, "mapping values are not allowed"):
		hint = `put a value that contains ": " in quotes, or write it as a block after "|"`
	case strings.Contains(le.Message, "cannot start any token"):
		hint = "put the value in quotes, and indent with spaces"
	}
	d.fail(max(line, 1), max(column, 1), message, hint)
}

// atEnd reports whether nothing but white space follows a place.
func (d *document) atEnd(line, column int) bool {
	for i := line - 1; i >= 0 && i < len(d.lines); i++ {
		rest := d.lines[i]
		if i == line-1 {
			runes := []rune(rest)
			rest = string(runes[min(max(column-1, 0), len(runes)):])
		}
		if strings.TrimSpace(rest) != "" {
			return false
		}
	}
	return true
}

// atBrace reports whether a place is at a brace that opens in the middle of a
// value, or behind one that closes in the middle of it.
func (d *document) atBrace(line, column int) bool {
	if line < 1 || line > len(d.lines) {
		return false
	}
	runes := []rune(d.lines[line-1])
	at := column - 1
	return at >= 0 && at < len(runes) && runes[at] == '{' || at > 0 && at <= len(runes) && runes[at-1] == '}'
}

// node resolves an alias. It returns nil after it has reported an expansion
// without end.
func (d *document) node(raw *yaml.Node) *Node {
	n := &Node{doc: d, at: raw, raw: raw}
	if raw.Kind != yaml.AliasNode {
		return n
	}
	if d.expanded < 0 {
		return nil
	}
	size := d.sizeOf(raw.Alias, map[*yaml.Node]bool{})
	if size == endless {
		d.expanded = -1
		n.Problemf("write the values out", "the alias *%s stands within the value that it repeats", raw.Value)
		return nil
	}
	d.expanded += size
	if d.expanded > maxExpansion {
		d.expanded = -1 // reported once
		n.Problemf("write the values out", "aliases make the file too large")
		return nil
	}
	n.raw = raw.Alias
	return n
}

// endless is the size of a node that contains itself.
const endless = -1

// sizeOf counts the nodes that raw stands for, up to more than maxExpansion.
func (d *document) sizeOf(raw *yaml.Node, path map[*yaml.Node]bool) int {
	if raw.Kind == yaml.AliasNode {
		raw = raw.Alias
	}
	if path[raw] {
		return endless
	}
	path[raw] = true
	defer delete(path, raw)
	size := 1
	for _, c := range raw.Content {
		n := d.sizeOf(c, path)
		if n == endless {
			return endless
		}
		if size += n; size > maxExpansion {
			break
		}
	}
	return size
}

// resolve returns the absolute or relative path of a file named in d.
func (d *document) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.path), path)
}

// firstAt returns the place of the first character that is told by is.
func firstAt(data []byte, is func(r rune, size int) bool) (line, column int) {
	line, column = 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if is(r, size) {
			break
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		data = data[size:]
	}
	return line, column
}

// isControl reports whether YAML forbids a character.
func isControl(r rune, _ int) bool {
	return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' && r != '\u0085'
}

func readBounded(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, maxSecret+1))
}
