package checkpointtest_test

import (
	"testing"

	"keyhook/checkpoint/checkpointtest"
)

func TestMemory(t *testing.T) {
	checkpointtest.Run(t, func(*testing.T) checkpointtest.Place { return memory{checkpointtest.NewMemory()} })
}

// memory is restarted by a copy: a crash leaves all that was committed.
type memory struct{ *checkpointtest.Memory }

func (m memory) Open(*testing.T) checkpointtest.Backend { return m.Memory }
