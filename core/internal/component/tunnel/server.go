package tunnel

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/informers"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
)

// Server is the unit on servers. It keeps the tunnels that nodes opened, one a
// node, and dials through them.
type Server struct {
	mode, own string
	log       *slog.Logger
	limits    limits
	places    atomic.Pointer[places]

	direct func(ctx context.Context, network, address string) (net.Conn, error)

	mu       sync.Mutex
	running  context.Context // nil while the unit does not run
	sessions map[string]*session
	opened   chan struct{} // closed when a tunnel is opened
	serving  sync.WaitGroup
}

// NewServer makes the unit. mode is one of config's Egress constants; own is the
// name of this machine's node, which is dialled directly, "" without one.
func NewServer(mode, own string, log *slog.Logger) *Server {
	return &Server{
		mode: mode, own: own, log: log, limits: standard(), sessions: map[string]*session{}, opened: make(chan struct{}),
		// The limits of Go's default transport, which the API server has without us.
		direct: (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
	}
}

// Run takes tunnels until ctx is done, and then ends them. Nothing can keep it
// from taking them: the port is the supervisor's.
func (s *Server) Run(ctx context.Context, ready func()) error {
	s.mu.Lock()
	s.running = ctx
	s.mu.Unlock()
	ready()
	<-ctx.Done()
	s.mu.Lock()
	s.running = nil
	s.mu.Unlock()
	s.serving.Wait()
	return nil
}

// Follow has the server learn from f which node has which address. It is called
// before f is started.
func (s *Server) Follow(f informers.SharedInformerFactory) error {
	p, err := newPlaces(s.mode, f)
	if err != nil {
		return err
	}
	s.places.Store(p)
	return nil
}

// Serve takes the tunnel of a node. The caller has proved, by its certificate,
// that the request is that node's.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, node string) {
	if !websocket.IsWebSocketUpgrade(r) {
		joinapi.WriteStatus(w, http.StatusUpgradeRequired, 0, r.URL.Path+" is for websockets")
		return
	}
	if node == s.own {
		joinapi.WriteStatus(w, http.StatusMisdirectedRequest, 0, "this is the node's own server, which dials it directly")
		return
	}
	s.mu.Lock()
	ctx := s.running
	if ctx != nil {
		s.serving.Add(1) // not after Run has begun to wait
	}
	s.mu.Unlock()
	if ctx == nil {
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the server does not take tunnels yet")
		return
	}
	upgrader := websocket.Upgrader{
		HandshakeTimeout: handshake, ReadBufferSize: maxWrite, WriteBufferSize: 4 << 10, // a frame is written past it
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			joinapi.WriteStatus(w, status, 0, reason.Error())
		},
	}
	below := &wire{silence: s.limits.silence}
	ws, err := upgrader.Upgrade(hijacked{w, below}, r, nil)
	if err != nil {
		s.serving.Done()
		s.log.Debug("tunnel not opened", "node", node, "from", r.RemoteAddr, "error", err)
		return
	}
	// The request ends here: those of the supervisor are counted, and bounded in time.
	go s.keep(ctx, node, r.RemoteAddr, newServerSession(ws, below, s.limits))
}

// keep serves a node's tunnel until it ends. A newer one of the same node takes
// its place, as the node knows best which of them works.
func (s *Server) keep(ctx context.Context, node, from string, own *session) {
	defer s.serving.Done()
	s.mu.Lock()
	old := s.sessions[node]
	s.sessions[node] = own
	close(s.opened)
	s.opened = make(chan struct{})
	s.mu.Unlock()
	if old != nil {
		old.cut()
	}
	s.log.Info("tunnel opened", "node", node, "from", from)
	err := own.serve(ctx)
	s.mu.Lock()
	replaced := s.sessions[node] != own
	if !replaced {
		delete(s.sessions, node)
	}
	s.mu.Unlock()
	if ctx.Err() == nil {
		s.log.Info("tunnel ended", "node", node, "from", from, "replaced", replaced, "error", err)
	}
}

// hijacked gives the websocket a connection with the tunnel's deadlines.
type hijacked struct {
	http.ResponseWriter
	wire *wire
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 {
		_ = c.Close()
		return nil, nil, fmt.Errorf("%d bytes came before the answer", n) // unmetered
	}
	h.wire.Conn = c
	return h.wire, rw, nil
}
