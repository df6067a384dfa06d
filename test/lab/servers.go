package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Versions of etcd that keyhook is tested with. Each has a module of its own,
// test/servers/etcd-VERSION, which pins it with everything it is built from.
const (
	OldestEtcd = "3.5.17"
	LatestEtcd = "3.7.3"
)

// EtcdVersions returns all of them, oldest first.
func EtcdVersions() []string { return []string{OldestEtcd, "3.5.35", "3.6.16", LatestEtcd} }

// EtcdPrograms are the paths of the programs of one version of etcd.
type EtcdPrograms struct {
	Version string
	Server  string
	Utility string // etcdutl, which restores snapshots
}

// NewestEtcd returns the path of the newest etcd server. KEYHOOK_TEST_ETCD names
// one to use instead.
func NewestEtcd(ctx context.Context) (path string, err error) {
	if path := os.Getenv("KEYHOOK_TEST_ETCD"); path != "" {
		return path, nil
	}
	p, err := EtcdProgramsOf(ctx, LatestEtcd)
	return p.Server, err
}

// EtcdUnderTest returns the server that KEYHOOK_TEST_ETCD_SERVER names, as tests of
// all versions do, without a utility; by default the newest version.
func EtcdUnderTest(ctx context.Context) (EtcdPrograms, error) {
	path := os.Getenv("KEYHOOK_TEST_ETCD_SERVER")
	if path == "" {
		return EtcdProgramsOf(ctx, LatestEtcd)
	}
	said, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return EtcdPrograms{}, fmt.Errorf("%s --version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(said), "\n")
	version, ok := strings.CutPrefix(line, "etcd Version: ")
	if !ok {
		return EtcdPrograms{}, fmt.Errorf("%s --version says %q", path, line)
	}
	return EtcdPrograms{Version: version, Server: path}, nil
}

// EtcdProgramsOf builds the programs of one of [EtcdVersions] from source, and
// keeps them in bin/servers of the checkout: only the first call takes its time,
// a minute or two with nothing in Go's cache. It may be called from several
// processes at once.
func EtcdProgramsOf(ctx context.Context, version string) (p EtcdPrograms, err error) {
	if !slices.Contains(EtcdVersions(), version) {
		return p, fmt.Errorf("no module pins etcd %s", version)
	}
	root, err := checkout(ctx)
	if err != nil {
		return p, err
	}
	module := filepath.Join(root, "test", "servers", "etcd-"+version)
	pinned, err := fingerprint(ctx, module)
	if err != nil {
		return p, err
	}
	dir := filepath.Join(root, "bin", "servers", "etcd-"+version+"-"+pinned)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return p, err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	p = EtcdPrograms{Version: version, Server: filepath.Join(dir, "etcd"), Utility: filepath.Join(dir, "etcdutl")}
	return p, errors.Join(
		buildOnce(ctx, p.Server, module, "go.etcd.io/etcd/server/v3"),
		buildOnce(ctx, p.Utility, module, "go.etcd.io/etcd/etcdutl/v3"))
}

// buildOnce builds a package of the module in the directory module, unless out
// is there already.
func buildOnce(ctx context.Context, out, module, pkg string) error {
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out+".new", pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v in %s: %w\n%s", cmd, module, err, said)
	}
	return os.Rename(out+".new", out)
}

// fingerprint stands for all that determines what is built.
func fingerprint(ctx context.Context, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	cmd.Dir = module
	env, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w", cmd, err)
	}
	h := sha256.New()
	h.Write(env)
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// checkout returns the root of the main module, in which the working directory
// is.
func checkout(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod))), nil
}

// lock waits until no other process holds the file at path.
func lock(path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}
