package archtest

import (
	"slices"
	"strings"
	"testing"
)

// layer says what one package, and the packages below its path, may use.
type layer struct {
	path string
	// may are the packages of keyhook that it may import; a trailing "/..."
	// includes what is below. A package may always import what is below itself.
	may []string
	// knows are the parts of the outside world that it may reach, itself or
	// through what it imports. The standard library but for net/http is free.
	knows []string
}

// The parts of the outside world that not everybody may know.
const (
	modules    = "modules other than the standard library"
	http       = "net/http"
	etcdClient = "etcd's client"
	etcdServer = "etcd's server"
	nats       = "NATS"
	pebble     = "Pebble"
	cel        = "CEL"
)

// everything is for the packages that put the parts together.
var everything = []string{modules, http, etcdClient, etcdServer, nats, pebble, cel}

// layers lists the packages from the bottom up. The most specific path counts.
var layers = []layer{
	{path: "keyhook"},

	{path: "keyhook/checkpoint", may: []string{"keyhook"}},
	{path: "keyhook/checkpoint/checkpointtest", may: []string{"keyhook", "keyhook/checkpoint"}, knows: []string{modules}},
	{path: "keyhook/checkpoint/record", may: []string{"keyhook", "keyhook/checkpoint"}, knows: []string{modules}},
	{path: "keyhook/checkpoint/disk", may: []string{"keyhook", "keyhook/checkpoint", "keyhook/checkpoint/record"}, knows: []string{modules, http, pebble}},
	{path: "keyhook/sinks", may: []string{"keyhook"}},
	{path: "keyhook/sinks/redact"},
	{path: "keyhook/sinks/sinktest", may: []string{"keyhook", "keyhook/sinks"}, knows: []string{modules, http}},
	{path: "keyhook/sinks/webhook", may: []string{"keyhook", "keyhook/sinks", "keyhook/sinks/redact"}, knows: []string{modules, http}},

	{path: "keyhook/sinks/nats", may: []string{"keyhook", "keyhook/sinks", "keyhook/sinks/redact"}, knows: []string{modules, http, nats}},

	{path: "keyhook/internal/strictyaml", knows: []string{modules}},
	{path: "keyhook/internal/hint"},

	{path: "keyhook/watch", may: []string{"keyhook", "keyhook/checkpoint"}, knows: []string{modules, http, etcdClient}},
	{path: "keyhook/rules", may: []string{"keyhook", "keyhook/internal/strictyaml"}, knows: []string{modules, cel}},
	{path: "keyhook/dispatcher", may: []string{"keyhook", "keyhook/checkpoint", "keyhook/sinks"}, knows: []string{modules}},

	{path: "keyhook/rules/ruletest", may: []string{
		"keyhook", "keyhook/rules", "keyhook/dispatcher", "keyhook/sinks", "keyhook/sinks/webhook", "keyhook/internal/strictyaml",
	}, knows: []string{modules, http, cel}},

	{path: "keyhook/internal/config", may: []string{"keyhook", "keyhook/watch", "keyhook/rules", "keyhook/internal/strictyaml"}, knows: []string{modules, http, etcdClient, cel}},
	{path: "keyhook/internal/schema"},
	{path: "keyhook/internal/schema/build", may: []string{"keyhook/rules", "keyhook/rules/ruletest", "keyhook/internal/config", "keyhook/internal/strictyaml"}, knows: []string{modules, http, etcdClient, cel}},
	{path: "keyhook/internal/schema/generate", may: []string{"keyhook/internal/schema/build"}, knows: []string{modules, http, etcdClient, cel}},
	{path: "keyhook/internal/telemetry", may: []string{"keyhook"}, knows: []string{modules, http}},
	{path: "keyhook/internal/backlog", may: []string{"keyhook", "keyhook/checkpoint", "keyhook/dispatcher"}, knows: []string{modules}},
	{path: "keyhook/internal/compare", may: []string{"keyhook"}},
	{path: "keyhook/internal/admin", may: []string{"keyhook", "keyhook/internal/backlog", "keyhook/internal/compare", "keyhook/internal/hint", "keyhook/internal/telemetry"}, knows: []string{modules, http}},
	{path: "keyhook/internal/inbox", knows: []string{modules, http}},
	{path: "keyhook/internal/inbox/natsinbox", knows: []string{modules, http, nats}},
	{path: "keyhook/internal/devserver", may: []string{"keyhook", "keyhook/examples/..."}, knows: []string{modules, http, etcdClient, etcdServer, nats}},
	{path: "keyhook/internal/app", may: []string{
		"keyhook", "keyhook/checkpoint/...", "keyhook/sinks/...", "keyhook/watch", "keyhook/rules", "keyhook/dispatcher",
		"keyhook/internal/config", "keyhook/internal/telemetry", "keyhook/internal/admin", "keyhook/internal/backlog", "keyhook/internal/compare", "keyhook/internal/hint", "keyhook/internal/strictyaml",
	}, knows: []string{modules, http, etcdClient, nats, pebble, cel}},
	{path: "keyhook/internal/onlook", may: []string{"keyhook"}, knows: []string{modules, http, etcdClient}},
	{path: "keyhook/internal/cli", may: []string{
		"keyhook", "keyhook/watch", "keyhook/rules/...", "keyhook/internal/app", "keyhook/internal/onlook", "keyhook/internal/admin", "keyhook/internal/backlog", "keyhook/internal/compare", "keyhook/internal/inbox/...", "keyhook/internal/config", "keyhook/internal/devserver", "keyhook/internal/hint",
		"keyhook/internal/schema", "keyhook/internal/strictyaml", "keyhook/internal/telemetry", "keyhook/examples/...",
	}, knows: everything},
	{path: "keyhook/cmd/keyhook", may: []string{"keyhook/internal/cli"}, knows: everything},

	{path: "keyhook/examples"},
	{path: "keyhook/deploy"},
	{path: "keyhook/docs"},
	{path: "keyhook/internal/archtest"},
	{path: "keyhook/internal/certtest"},
	{path: "keyhook/internal/freeport"},
	{path: "keyhook/internal/inboxtest", may: []string{"keyhook/internal/inbox"}, knows: []string{modules, http}},
	{path: "keyhook/internal/natstest", may: []string{"keyhook/internal/certtest", "keyhook/internal/freeport"}, knows: []string{modules, http, nats}},
	{path: "keyhook/internal/etcdtest", may: []string{"keyhook", "keyhook/internal/certtest", "keyhook/internal/freeport"}, knows: everything},
	{path: "keyhook/test", may: []string{"keyhook/test/...", "keyhook/internal/freeport"}, knows: []string{modules, http, etcdClient, nats}},
	{path: "keyhook/test/bench", may: []string{"keyhook/test/...", "keyhook/internal/freeport"}, knows: []string{modules, http, etcdClient}},
}

// part returns the part of the outside world that an import path belongs to, ""
// if anybody may know it.
func part(path string) string {
	first, _, _ := strings.Cut(path, "/")
	switch {
	case path == "net/http":
		return http
	case !strings.Contains(first, "."): // the standard library
		return ""
	case strings.HasPrefix(path, "go.etcd.io/etcd/server/"):
		return etcdServer
	case strings.HasPrefix(path, "go.etcd.io/etcd/client/v3"):
		return etcdClient
	case strings.HasPrefix(path, "github.com/nats-io/"):
		return nats
	case strings.HasPrefix(path, "github.com/cockroachdb/pebble/"):
		return pebble
	case strings.HasPrefix(path, "cel.dev/cel-go"):
		return cel
	default:
		return modules
	}
}

// layerOf returns the most specific layer whose path is p or lies above it.
func layerOf(p string) (layer, bool) {
	var best layer
	for _, l := range layers {
		if (p == l.path || l.path != "keyhook" && strings.HasPrefix(p, l.path+"/")) && len(l.path) > len(best.path) {
			best = l
		}
	}
	return best, best.path != ""
}

// allows reports whether a package of layer l may import p.
func (l layer) allows(p string) bool {
	if strings.HasPrefix(p, l.path+"/") && l.path != "keyhook" {
		return true
	}
	return slices.ContainsFunc(l.may, func(m string) bool {
		below, tree := strings.CutSuffix(m, "/...")
		return p == below || tree && strings.HasPrefix(p, below+"/")
	})
}

// ours reports whether p is a package of keyhook's main module.
func ours(p string) bool { return p == "keyhook" || strings.HasPrefix(p, "keyhook/") }

// broken returns what pkg imports or reaches against its layer.
func broken(pkg goPackage) []string {
	l, ok := layerOf(pkg.ImportPath)
	if !ok {
		return []string{pkg.ImportPath + " is in no layer; decide where it stands, in layers_test.go"}
	}
	var faults []string
	for _, p := range pkg.Imports {
		if ours(p) && p != pkg.ImportPath && !l.allows(p) && !sibling(l, p) {
			faults = append(faults, pkg.ImportPath+" imports "+p)
		}
	}
	told := make(map[string]bool)
	for _, p := range pkg.Deps {
		if outside := part(p); !ours(p) && outside != "" && !slices.Contains(l.knows, outside) && !told[outside] {
			told[outside] = true
			faults = append(faults, pkg.ImportPath+" reaches "+outside+" through "+p)
		}
	}
	return faults
}

// sibling reports whether p belongs to layer l itself.
func sibling(l layer, p string) bool {
	of, _ := layerOf(p)
	return of.path == l.path
}

func TestImportsRunDownwardOnly(t *testing.T) {
	for _, tags := range []string{"", "nodev"} {
		for _, pkg := range list(t, tags, "keyhook/...") {
			for _, fault := range broken(pkg) {
				t.Errorf("[tags %q] %s", tags, fault)
			}
		}
	}
}

// What is released holds no server, and so none of what a server depends on.
func TestTheReleaseHoldsNoServer(t *testing.T) {
	for _, pkg := range list(t, "nodev", "keyhook/cmd/keyhook") {
		for _, p := range pkg.Deps {
			if part(p) == etcdServer || strings.HasPrefix(p, "github.com/nats-io/nats-server/") {
				t.Errorf("built with nodev, %s depends on %s", pkg.ImportPath, p)
			}
		}
	}
}

// The table is only worth something if it refuses what it should.
func TestTheTableRefuses(t *testing.T) {
	tests := map[string]struct {
		pkg  goPackage
		want string
	}{
		"a vocabulary that needs a module":       {goPackage{ImportPath: "keyhook", Deps: []string{"time", "github.com/x/y"}}, "reaches modules"},
		"a vocabulary that imports a part":       {goPackage{ImportPath: "keyhook", Imports: []string{"keyhook/watch"}}, "imports keyhook/watch"},
		"a dispatcher that speaks HTTP":          {goPackage{ImportPath: "keyhook/dispatcher", Deps: []string{"net/http"}}, "reaches net/http"},
		"a dispatcher that knows etcd":           {goPackage{ImportPath: "keyhook/dispatcher", Deps: []string{"go.etcd.io/etcd/client/v3"}}, "reaches etcd's client"},
		"a dispatcher that picks its sink":       {goPackage{ImportPath: "keyhook/dispatcher", Imports: []string{"keyhook/sinks/webhook"}}, "imports keyhook/sinks/webhook"},
		"rules that speak HTTP":                  {goPackage{ImportPath: "keyhook/rules/pattern", Deps: []string{"net/http"}}, "reaches net/http"},
		"a watch that knows rules":               {goPackage{ImportPath: "keyhook/watch", Imports: []string{"keyhook/rules"}}, "imports keyhook/rules"},
		"a store that is not under checkpoint":   {goPackage{ImportPath: "keyhook/watch", Deps: []string{"github.com/cockroachdb/pebble/v2"}}, "reaches Pebble"},
		"a black-box test that looks inside":     {goPackage{ImportPath: "keyhook/test/oracle", Imports: []string{"keyhook/dispatcher"}}, "imports keyhook/dispatcher"},
		"a package that nobody has decided upon": {goPackage{ImportPath: "keyhook/common"}, "is in no layer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(broken(tt.pkg), "; "); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want it to say %q", got, tt.want)
			}
		})
	}
}
