package app

import (
	"keyhook/internal/config"
	"keyhook/watch"
)

// ClientConfig returns what the configuration says of how to reach etcd.
func ClientConfig(e *config.Etcd) watch.ClientConfig { return clientConfig(e) }
