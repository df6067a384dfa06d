package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildKeyhook builds keyhook as it is released into dir and returns its path.
// KEYHOOK_TEST_RACE builds it with the race detector, KEYHOOK_TEST_KEYHOOK names
// one to use instead.
func BuildKeyhook(ctx context.Context, dir string) (path string, err error) {
	if path := os.Getenv("KEYHOOK_TEST_KEYHOOK"); path != "" {
		return path, nil
	}
	args := []string{"build", "-tags", "nodev"}
	if os.Getenv("KEYHOOK_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	return build(ctx, filepath.Join(dir, "keyhook"), ".", "./cmd/keyhook", args...)
}

// build builds a package of the module at module, a path below the root of the
// main one, in which the working directory is.
func build(ctx context.Context, out, module, pkg string, args ...string) (string, error) {
	root, err := checkout(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", out, pkg)...)
	cmd.Dir = filepath.Join(root, module)
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v in %s: %w\n%s", cmd, cmd.Dir, err, said)
	}
	return out, nil
}
