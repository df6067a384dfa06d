package disk

import (
	"math"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Free returns how many bytes the file system that holds dir has left, or an
// error where that cannot be told.
func Free(dir string) (int64, error) {
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return 0, err
	}
	return int64(min(usage.AvailBytes, math.MaxInt64)), nil
}
