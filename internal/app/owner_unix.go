//go:build unix

package app

import (
	"fmt"
	"os"
	"syscall"

	"keyhook/internal/hint"
)

// mayOpen refuses a directory of another user, which a privileged one could
// open: files that it wrote there would lock the owner out.
func mayOpen(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return nil //nolint:nilerr // opening it says what is wrong
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	return hint.New(fmt.Sprintf("the data directory %s belongs to uid %d, and this is uid %d", dir, stat.Uid, os.Geteuid()),
		fmt.Sprintf("run the command as its owner, such as with sudo -u '#%d', or start keyhook: it can be asked by anybody with the token", stat.Uid), nil)
}
