package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"keyhook/checkpoint/disk"
	"keyhook/internal/admin"
	"keyhook/internal/config"
)

// Health asks the process that holds the data directory of cfg for its health,
// or whether it is ready, and returns what it answers. An error means that it is
// not, that it does not answer, or that there is none.
func Health(ctx context.Context, cfg *config.Config, ready bool) (answer string, err error) {
	address, err := adminAddress(cfg)
	if err != nil {
		return "", err
	}
	page := "/healthz"
	if ready {
		page = "/readyz"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+page, http.NoBody)
	if err != nil {
		return "", err
	}
	// The answer must be the process's own: no proxy, no redirect.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("%s of %s: %w", page, address, err)
	}
	answer = strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s of %s: %s: %s", page, address, response.Status, answer)
	}
	return answer, nil
}

// adminAddress returns where the process answers that holds the data directory:
// what it has announced there or, until it has, what the configuration says.
func adminAddress(cfg *config.Config) (string, error) {
	in, err := disk.ReadInstance(cfg.Checkpoint.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	address := in.Address
	if address == "" {
		address = cfg.Admin.Listen
	}
	switch _, port, err := net.SplitHostPort(address); {
	case err != nil:
		return "", fmt.Errorf("admin.listen: %w", err)
	case port == "0":
		return "", fmt.Errorf("no process has announced itself in %s", cfg.Checkpoint.Dir)
	}
	return admin.Dialable(address), nil
}
