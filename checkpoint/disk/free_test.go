package disk_test

import (
	"path/filepath"
	"testing"

	"keyhook/checkpoint/disk"
)

func TestFreeSpaceIsThatOfTheDirectory(t *testing.T) {
	if free, err := disk.Free(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("%d, %v", free, err)
	}
	if free, err := disk.Free(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Errorf("a directory that is not there has %d bytes left", free)
	}
}
