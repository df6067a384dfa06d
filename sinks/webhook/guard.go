package webhook

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// metadata are the addresses of clouds' metadata services that are not
// link-local.
var metadata = map[netip.Addr]string{
	netip.MustParseAddr("100.100.100.200"): "Alibaba Cloud",
	netip.MustParseAddr("168.63.129.16"):   "Azure",
	netip.MustParseAddr("192.0.0.192"):     "Oracle Cloud",
	netip.MustParseAddr("fd00:ec2::254"):   "AWS",
	netip.MustParseAddr("fd00:42::42"):     "Scaleway",
	netip.MustParseAddr("fd20:ce::254"):    "Google Cloud",
}

// embedding are the IPv6 networks whose addresses hold an IPv4 address, with
// the offset of its first byte.
var embedding = []struct {
	prefix netip.Prefix
	offset int
}{
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64 of a site, as commonly laid out
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4
}

// checkAddr returns an error if keyhook does not connect to addr.
func checkAddr(addr netip.Addr) error {
	a := addr.Unmap().WithZone("")
	if a.Is6() {
		for _, e := range embedding {
			if !e.prefix.Contains(a) {
				continue
			}
			b := a.As16()
			v4, _ := netip.AddrFromSlice(b[e.offset : e.offset+4])
			if err := checkAddr(v4); err != nil {
				return err
			}
		}
	}
	if cloud, ok := metadata[a]; ok {
		return fmt.Errorf("address %s is refused: the metadata service of %s", a, cloud)
	}
	if a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() {
		return fmt.Errorf("address %s is refused: link-local, where clouds keep their metadata", a)
	}
	return nil
}

// guard stops a connection to an address that is refused, after names were
// resolved and before a packet is sent.
func guard(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s is refused: %w", address, err)
	}
	return checkAddr(ap.Addr())
}

func newDialer(timeout time.Duration, r *net.Resolver) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second, Resolver: r, ControlContext: guard}
}
