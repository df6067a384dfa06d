package natsinbox

import (
	"fmt"
	"strings"
	"testing"
)

// Each line of a story is a stream that needs a subject; behind it the streams
// that change by that, with what they take.
func TestSubjectsBelongToOneStream(t *testing.T) {
	tests := map[string]struct{ story, want string }{
		"one stream takes all that begins alike": {
			"A audit.x.y\nA audit.z\nA audit\nA dns.changed",
			"A=[A audit.>]\n\nA=[A audit.> audit]\nA=[A audit.> audit dns.>]",
		},
		"two streams with subjects of their own": {
			"A a.x\nB b.x\nA a.y",
			"A=[A a.>]\nB=[B b.>]\n",
		},
		"two streams share a first token": {
			"A e.a.1\nB e.b.1\nA e.a.1\nA e.a.2\nB e.b.1",
			"A=[A e.>]\nA=[A e.a.1] B=[B e.b.1]\n\nA=[A e.a.1 e.a.2]\n",
		},
		"a stream that is named as the subject begins": {
			"audit audit.x\nB audit.y",
			"audit=[audit audit.>]\naudit=[audit audit.x] B=[B audit.y]",
		},
		"a stream that is named as the subject": {
			"audit audit\naudit audit",
			"audit=[audit]\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLayout()
			var lines []string
			for line := range strings.Lines(tt.story) {
				stream, subject, _ := strings.Cut(strings.TrimSpace(line), " ")
				var changed []string
				for _, name := range l.cover(stream, subject) {
					changed = append(changed, fmt.Sprintf("%s=%v", name, l.streams[name]))
				}
				lines = append(lines, strings.Join(changed, " "))
			}
			if got := strings.Join(lines, "\n"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}
