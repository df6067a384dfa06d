package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Status is what keyhook says of itself, as far as tests want to know it.
type Status struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	Epoch   uint64   `json:"epoch"`
	Ranges  []struct {
		Range    string `json:"range"`
		Position int64  `json:"position"`
		State    string `json:"state"`
		Ready    bool   `json:"ready"`
		Error    string `json:"error"`
	} `json:"ranges"`
	Sinks []struct {
		Name        string `json:"name"`
		Owed        int    `json:"owed"`
		DeadLetters int    `json:"dead_letters"`
	} `json:"sinks"`
	Commit struct {
		Sequence uint64 `json:"sequence"`
	} `json:"commit"`
}

// Status asks the running process for its status.
func (k *Keyhook) Status(ctx context.Context) (Status, error) {
	var st Status
	code, body, err := k.Get(ctx, "/api/v1/status")
	switch {
	case err != nil:
		return st, err
	case code != http.StatusOK:
		return st, fmt.Errorf("the status is refused with %d: %s", code, body)
	}
	err = json.Unmarshal([]byte(body), &st)
	return st, err
}

// Gap is a gap that keyhook has said it repaired.
type Gap struct {
	Time     time.Time `json:"time"`
	Range    string    `json:"range"`
	Reason   string    `json:"reason"`
	From, To int64
	Epoch    uint64
	Created  int
	Changed  int
	Deleted  int
}

func (g Gap) String() string {
	return fmt.Sprintf("%s: %s from %d to %d, %d created, %d changed, %d deleted (epoch %d)",
		g.Range, g.Reason, g.From, g.To, g.Created, g.Changed, g.Deleted, g.Epoch)
}

// Gaps returns the gaps that keyhook has said it repaired, over all starts.
func (k *Keyhook) Gaps() ([]Gap, error) {
	log, err := os.ReadFile(k.log)
	if err != nil {
		return nil, err
	}
	var gaps []Gap
	for line := range strings.Lines(string(log)) {
		var said struct {
			Gap
			Message string `json:"msg"`
		}
		// A line that was cut off by a kill is none.
		if json.Unmarshal([]byte(line), &said) == nil && strings.HasPrefix(said.Message, "a gap is repaired") {
			gaps = append(gaps, said.Gap)
		}
	}
	return gaps, nil
}

// Artefacts copies the configuration, the log and the data directory of keyhook
// into dir.
func (k *Keyhook) Artefacts(dir string) error {
	return os.CopyFS(filepath.Join(dir, "keyhook"), os.DirFS(k.Dir))
}

// Artefacts copies the logs of the members, and every database that was kept,
// into dir.
func (c *Cluster) Artefacts(dir string) error {
	kept, err := filepath.Glob(filepath.Join(c.dir, "kept-*.db"))
	if err != nil {
		return err
	}
	for _, path := range append(c.Logs(), kept...) {
		if err := copyFile(filepath.Join(dir, filepath.Base(path)), path); err != nil {
			return err
		}
	}
	return nil
}
