package ruletest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Report is what a run of tests came to.
type Report struct {
	Files    []FileResult
	Coverage *Coverage // nil: not asked for
}

// Count returns how many tests were run, and how many have failed.
func (r *Report) Count() (tests, failed int) {
	for i := range r.Files {
		tests += len(r.Files[i].Tests)
		failed += r.Files[i].Failed()
	}
	return tests, failed
}

// WriteText writes r for people: each test that failed, with why; those that
// passed only if all is set.
func (r *Report) WriteText(w io.Writer, all bool) error {
	var b strings.Builder
	for i := range r.Files {
		f := &r.Files[i]
		if len(f.Tests) == 0 {
			continue // none was asked for
		}
		state := "ok  "
		if f.Failed() > 0 {
			state = "FAIL"
		}
		fmt.Fprintf(&b, "%s  %s  %s\n", state, f.Path, counted(len(f.Tests), "test"))
		for _, t := range f.Tests {
			t.write(&b, all)
		}
	}
	if r.Coverage != nil {
		r.Coverage.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *TestResult) write(b *strings.Builder, all bool) {
	if len(t.Failures) == 0 {
		if all {
			fmt.Fprintf(b, "      ok    %s (%s)\n", t.Name, short(t.Elapsed))
		}
		return
	}
	fmt.Fprintf(b, "      FAIL  %s\n", t.Name)
	for _, f := range t.Failures {
		fmt.Fprintf(b, "%s\n", indent(f.Error(), "            "))
	}
}

// Error returns the place and the message, and the detail on lines of its own.
func (f *Failure) Error() string {
	s := f.Position.String() + ": "
	if f.Step > 0 {
		s += fmt.Sprintf("step %d: ", f.Step)
	}
	s += f.Message
	if f.Detail != "" {
		s += "\n" + indent(f.Detail, "    ")
	}
	return s
}

func (c *Coverage) write(b *strings.Builder) {
	matched, all, gone, ways := c.Count()
	fmt.Fprintf(b, "\ncoverage: %d of %s matched, %s of branches\n", matched, counted(all, "rule"), percent(gone, ways))
	for _, r := range c.Rules {
		if r.Matched == 0 {
			fmt.Fprintf(b, "  %s: %s never matches\n", r.Position, r.Name)
		}
	}
	for _, br := range c.Branches {
		var never string
		switch {
		case br.True && br.False:
			continue
		case br.True:
			never = "never false"
		case br.False:
			never = "never true"
		default:
			never = "never evaluated"
		}
		fmt.Fprintf(b, "  %s: %s, %s: %s: %s\n", br.Position, br.Rule, br.What, never, br.Text)
	}
}

func percent(n, of int) string {
	if of == 0 {
		return "100 %"
	}
	return strconv.Itoa(100*n/of) + " %"
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// jsonReport is r for programs.
type jsonReport struct {
	Passed   bool          `json:"passed"`
	Files    []jsonFile    `json:"files"`
	Coverage *jsonCoverage `json:"coverage,omitempty"`
}

type jsonFile struct {
	Path  string     `json:"path"`
	Tests []jsonTest `json:"tests"`
}

type jsonTest struct {
	Name     string        `json:"name"`
	At       string        `json:"at"`
	Passed   bool          `json:"passed"`
	Failures []jsonFailure `json:"failures,omitempty"`
	Elapsed  float64       `json:"virtual_seconds"`
	Took     float64       `json:"seconds"`
}

type jsonFailure struct {
	At      string `json:"at"`
	Step    int    `json:"step,omitempty"`
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
}

type jsonCoverage struct {
	Rules    []jsonRule   `json:"rules"`
	Branches []jsonBranch `json:"branches"`
	Gone     int          `json:"branch_ways_seen"`
	Ways     int          `json:"branch_ways"`
}

type jsonRule struct {
	Name    string `json:"name"`
	At      string `json:"at"`
	Matched int    `json:"matched"`
}

type jsonBranch struct {
	Rule  string `json:"rule"`
	In    string `json:"in"`
	At    string `json:"at"`
	Text  string `json:"text"`
	True  bool   `json:"seen_true"`
	False bool   `json:"seen_false"`
}

// JSON returns r in a form that can be written as JSON.
func (r *Report) JSON() any {
	_, failed := r.Count()
	out := jsonReport{Passed: failed == 0, Files: []jsonFile{}}
	for _, f := range r.Files {
		file := jsonFile{Path: f.Path, Tests: []jsonTest{}}
		for _, t := range f.Tests {
			test := jsonTest{
				Name: t.Name, At: t.Position.String(), Passed: len(t.Failures) == 0,
				Elapsed: t.Elapsed.Seconds(), Took: t.Took.Seconds(),
			}
			for _, x := range t.Failures {
				test.Failures = append(test.Failures, jsonFailure{At: x.Position.String(), Step: x.Step, Message: x.Message, Detail: x.Detail})
			}
			file.Tests = append(file.Tests, test)
		}
		out.Files = append(out.Files, file)
	}
	if c := r.Coverage; c != nil {
		cov := &jsonCoverage{Rules: []jsonRule{}, Branches: []jsonBranch{}}
		_, _, cov.Gone, cov.Ways = c.Count()
		for _, x := range c.Rules {
			cov.Rules = append(cov.Rules, jsonRule{Name: x.Name, At: x.Position.String(), Matched: x.Matched})
		}
		for _, x := range c.Branches {
			cov.Branches = append(cov.Branches, jsonBranch{
				Rule: x.Rule, In: x.What, At: x.Position.String(), Text: x.Text, True: x.True, False: x.False,
			})
		}
		out.Coverage = cov
	}
	return out
}

// The elements of JUnit's format that all of its readers know.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes r as JUnit's XML.
func (r *Report) WriteJUnit(w io.Writer) error {
	var all junitSuites
	for i := range r.Files {
		f := &r.Files[i]
		suite := junitSuite{Name: f.Path, Tests: len(f.Tests), Failures: f.Failed()}
		var took time.Duration
		for _, t := range f.Tests {
			took += t.Took
			c := junitCase{Name: t.Name, Class: f.Path, File: f.Path, Line: t.Position.Line, Time: seconds(t.Took)}
			if len(t.Failures) > 0 {
				texts := make([]string, len(t.Failures))
				for i := range t.Failures {
					texts[i] = t.Failures[i].Error()
				}
				c.Failure = &junitFailure{Message: t.Failures[0].Message, Text: strings.Join(texts, "\n")}
			}
			suite.Cases = append(suite.Cases, c)
		}
		suite.Time = seconds(took)
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Suites = append(all.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 6, 64) }
