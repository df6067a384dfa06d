package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binaries are the programs that the tests run.
type Binaries struct {
	Keyhook string
	Etcd    string
}

// Build builds the programs into dir. It must be called in a directory of
// keyhook's module. KEYHOOK_TEST_RACE builds keyhook with the race detector;
// KEYHOOK_TEST_ETCD names an etcd to use in place of the one that test/servers
// pins.
func Build(ctx context.Context, dir string) (Binaries, error) {
	b := Binaries{Keyhook: filepath.Join(dir, "keyhook"), Etcd: os.Getenv("KEYHOOK_TEST_ETCD")}
	root, err := module(ctx)
	if err != nil {
		return b, err
	}
	args := []string{"build", "-tags", "nodev", "-o", b.Keyhook}
	if os.Getenv("KEYHOOK_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	if err := goCommand(ctx, root, append(args, "./cmd/keyhook")...); err != nil {
		return b, err
	}
	if b.Etcd == "" {
		b.Etcd = filepath.Join(dir, "etcd")
		if err := goCommand(ctx, filepath.Join(root, "test", "servers"), "build", "-o", b.Etcd, "./etcd"); err != nil {
			return b, err
		}
	}
	return b, nil
}

// module returns the root of the module that the working directory is in.
func module(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(string(bytes.TrimSpace(out))), nil
}

func goCommand(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v in %s: %w\n%s", cmd, dir, err, out)
	}
	return nil
}
