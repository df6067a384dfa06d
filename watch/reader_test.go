package watch

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyhook"
)

// The scripts in testdata/reader tell what responses do to a position:
//
//	begin NEXT ADMITTED            a checkpoint
//	stream                         a new stream begins at the position
//	response header=R [fragment]   one event a line: REVISION put|del KEY
//	progress R
func TestReader(t *testing.T) {
	datadriven.Walk(t, "testdata/reader", func(t *testing.T, path string) {
		rd := new(reader)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "begin":
				next, admitted := number(t, d.CmdArgs[0].Key), number(t, d.CmdArgs[1].Key)
				*rd = reader{pos: keyhook.Position{Next: next, Admitted: int(admitted)}}
				return ""
			case "stream":
				rd.restart()
				return fmt.Sprintf("from revision %d\n", rd.pos.Next)
			case "progress":
				resp := &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: number(t, d.CmdArgs[0].Key)}}
				return tell(rd.take(resp, time.Time{}))
			case "response":
				var header int64
				d.ScanArgs(t, "header", &header)
				resp := &etcdserverpb.WatchResponse{
					Header: &etcdserverpb.ResponseHeader{Revision: header}, Fragment: d.HasArg("fragment"), Events: parseEvents(t, d.Input),
				}
				return tell(rd.take(resp, time.Time{}))
			default:
				t.Fatalf("unknown command %s", d.Cmd)
				return ""
			}
		})
	})
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func parseEvents(t *testing.T, input string) []*mvccpb.Event {
	t.Helper()
	var events []*mvccpb.Event
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		ev := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(f[2]), ModRevision: number(t, f[0])}}
		if f[1] == "del" {
			ev.Type = mvccpb.Event_DELETE
		} else {
			ev.Kv.Value = []byte(f[0])
		}
		events = append(events, ev)
	}
	return events
}

func tell(it item) string {
	var b strings.Builder
	for i, c := range it.changes {
		p := it.behind(i)
		fmt.Fprintf(&b, "%d %s %s", c.ev.GetKv().GetModRevision(), typeOf(c.ev), c.ev.GetKv().GetKey())
		if c.occurrence > 0 {
			fmt.Fprintf(&b, "#%d", c.occurrence)
		}
		fmt.Fprintf(&b, " -> %d/%d\n", p.Next, p.Admitted)
	}
	if it.duplicates > 0 {
		fmt.Fprintf(&b, "dropped %d\n", it.duplicates)
	}
	fmt.Fprintf(&b, "position %d/%d", it.end.Next, it.end.Admitted)
	if it.anchor != nil {
		fmt.Fprintf(&b, ", anchor %s@%d", it.anchor.Key, it.anchor.Revision)
	}
	return b.String() + "\n"
}

func responseOf(changes []change) *etcdserverpb.WatchResponse {
	resp := &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: 1 << 40}}
	for _, c := range changes {
		resp.Events = append(resp.Events, c.ev)
	}
	return resp
}
