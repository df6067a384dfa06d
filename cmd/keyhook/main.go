// Command keyhook watches etcd, evaluates rules on every change, and delivers
// what matches to webhooks.
package main

import (
	"os"

	"keyhook/internal/cli"
)

func main() { os.Exit(cli.Main()) }
