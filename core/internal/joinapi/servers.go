package joinapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// MaxServers is how many servers a cluster may have; a node checks each of them
// all the time.
const MaxServers = 32

// Servers is the answer to PathServers: where the servers of the cluster are
// reached, those that were alive a moment ago.
type Servers struct {
	Servers []string `json:"servers"` // IP:port, each once
}

// ParseServers reads and checks an answer to PathServers. It comes back sorted,
// with at least one server.
func ParseServers(text []byte) (Servers, error) {
	var s Servers
	if len(text) > MaxAnswerBody {
		return Servers{}, fmt.Errorf("servers: %d bytes, want at most %d", len(text), MaxAnswerBody)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return Servers{}, fmt.Errorf("servers: %w", err)
	}
	list, err := CheckServers(s.Servers)
	if err != nil {
		return Servers{}, err
	}
	for i, to := range list {
		s.Servers[i] = ServerAt(to.Addr(), to.Port())
	}
	s.Servers = s.Servers[:len(list)]
	return s, nil
}

// CheckServers reads the servers of a cluster, each IP:port, wherever the list is
// from. They come back sorted, each once; there is at least one.
func CheckServers(list []string) ([]netip.AddrPort, error) {
	if n := len(list); n == 0 || n > MaxServers {
		return nil, fmt.Errorf("servers: %d of them, want 1 to %d", n, MaxServers)
	}
	var servers []netip.AddrPort
	for _, text := range list {
		to, err := netip.ParseAddrPort(text)
		if err == nil && to.Port() == 0 {
			err = errors.New("port 0")
		}
		if err == nil {
			err = CheckNodeIP(to.Addr())
		}
		if err != nil {
			return nil, fmt.Errorf("server %.100q: %w", text, err)
		}
		servers = append(servers, to)
	}
	slices.SortFunc(servers, netip.AddrPort.Compare)
	return slices.Compact(servers), nil
}

// ServerAt is how a server's address is written among Servers.
func ServerAt(ip netip.Addr, port uint16) string {
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
}
