// Command etcd is the etcd server, built from the module proxy: the tests of
// the real binary need a real etcd process, on machines that have Go alone.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
