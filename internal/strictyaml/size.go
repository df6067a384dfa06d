package strictyaml

import (
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
)

// Size is a number of bytes as people write it: "512MiB", "1GB", "4096".
type Size int64

// Bytes returns s as a number.
func (s Size) Bytes() int64 { return int64(s) }

// ParseSize reads a size. KiB, MiB, GiB and TiB are powers of 1024; kB, MB, GB
// and TB powers of 1000.
func ParseSize(text string) (Size, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return Size(n), nil
}

// DecodeYAML implements [Decoder].
func (s *Size) DecodeYAML(n *Node) {
	const hint = "write a number with its unit, such as 512MiB or 1GiB"
	if k := n.Kind(); k != String && k != Number {
		n.Problemf(hint, "expected a size, found %s", n.describe())
		return
	}
	v, err := ParseSize(n.Text())
	if err != nil {
		n.Problemf(hint, "%s", err)
		return
	}
	*s = v
}
