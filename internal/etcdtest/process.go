package etcdtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"
)

// ServerVariable names the environment variable with the path of an etcd server
// that is run in place of the embedded one, so that tests hold for other versions.
const ServerVariable = "KEYHOOK_TEST_ETCD_SERVER"

// member is a running etcd.
type member interface{ stop() }

type inProcess struct{ *embed.Etcd }

func (e inProcess) stop() { e.Close() }

// external is a server in a process of its own.
type external struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{} // closed when it has ended
	err  error         // with which it has ended
}

// stop kills the server: nothing is lost with it, and it does not wait for
// anybody.
func (e *external) stop() {
	_ = e.cmd.Process.Kill() // it may have ended
	<-e.done
}

func (s *Server) startExternal(path string) (*external, error) {
	e := &external{cmd: exec.Command(path, flags(s.cfg)...), done: make(chan struct{})} //nolint:noctx // a test stops it
	e.cmd.Stdout, e.cmd.Stderr = &e.said, &e.said
	e.cmd.Dir = s.dir
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(e.done)
		e.err = e.cmd.Wait()
	}()
	return e, nil
}

// awaitExternal waits until the server answers, behind the proxy.
func (s *Server) awaitExternal(e *external) {
	s.t.Helper()
	c := s.client("", "") // to ask for one is an answer, too
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		st, err := c.Status(asking, s.Endpoints()[0])
		cancel()
		switch {
		case err == nil && st.Leader != 0, strings.Contains(rpctypes.ErrorDesc(err), rpctypes.ErrorDesc(rpctypes.ErrGRPCUserEmpty)):
			tick.Stop()
			return
		case ctx.Err() != nil:
			s.t.Fatalf("etcd does not become ready: %v", err)
		}
		select {
		case <-e.done:
			s.t.Fatalf("etcd has ended: %v\n%s", e.err, e.said.String())
		default:
		}
	}
}

// flags are the command line of a server of cfg.
func flags(cfg *embed.Config) []string {
	all := map[string]string{
		"name":                        cfg.Name,
		"data-dir":                    cfg.Dir,
		"listen-peer-urls":            cfg.ListenPeerUrls[0].String(),
		"initial-advertise-peer-urls": cfg.AdvertisePeerUrls[0].String(),
		"listen-client-urls":          cfg.ListenClientUrls[0].String(),
		"advertise-client-urls":       cfg.AdvertiseClientUrls[0].String(),
		"initial-cluster":             cfg.InitialCluster,
		"initial-cluster-token":       cfg.InitialClusterToken,
		"heartbeat-interval":          strconv.FormatUint(uint64(cfg.TickMs), 10),
		"election-timeout":            strconv.FormatUint(uint64(cfg.ElectionMs), 10),
		"max-txn-ops":                 strconv.FormatUint(uint64(cfg.MaxTxnOps), 10),
		"bcrypt-cost":                 strconv.FormatUint(uint64(cfg.BcryptCost), 10),
		"auth-token":                  cfg.AuthToken,
		"auth-token-ttl":              strconv.FormatUint(uint64(cfg.AuthTokenTTL), 10),
		"unsafe-no-fsync":             strconv.FormatBool(cfg.UnsafeNoFsync),
		"enable-grpc-gateway":         strconv.FormatBool(cfg.EnableGRPCGateway),
		"log-level":                   "error",
		"snapshot-count":              strconv.FormatUint(cfg.SnapshotCount, 10),
	}
	if tls := cfg.ClientTLSInfo; tls.CertFile != "" {
		all["cert-file"], all["key-file"], all["trusted-ca-file"] = tls.CertFile, tls.KeyFile, tls.TrustedCAFile
		all["client-cert-auth"] = strconv.FormatBool(tls.ClientCertAuth)
	}
	line := make([]string, 0, len(all))
	for name, value := range all {
		line = append(line, fmt.Sprintf("--%s=%s", name, value))
	}
	return line
}

// externalServer returns the path of the server to run, "" for the embedded one.
func externalServer() string { return strings.TrimSpace(os.Getenv(ServerVariable)) }
