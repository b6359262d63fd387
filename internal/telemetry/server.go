// Package telemetry shows how the agent is doing: metrics for Prometheus, liveness and readiness.
package telemetry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Check answers for one part of the agent. Its detail is printed as it is: it must hold no secrets and nothing
// unprintable.
type Check struct {
	Name   string
	OK     bool
	Detail string
}

// Config says where to listen and what to show.
type Config struct {
	Listen   string                       // host:port
	Live     func() (ok bool, why string) // whether the agent's loops make progress
	Ready    func() []Check               // the parts of readiness; all must be OK
	Gatherer prometheus.Gatherer
}

// Server serves /metrics, /healthz and /readyz.
type Server struct {
	cfg      Config
	log      *zap.Logger
	listener net.Listener
}

// Listen takes the address, so that one in use is known before anything is attached. Run must follow.
func Listen(cfg Config, log *zap.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for metrics: %w", cfg.Listen, err)
	}
	return &Server{cfg: cfg, log: log, listener: listener}, nil
}

// Addr returns the address that was taken.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close gives the address back if Run was not called.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{
		ErrorLog: zap.NewStdLog(s.log), ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(s.log),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	// Handlers end before what they read is closed.
	grace, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close() // a client that will not finish
	}
	<-served
	return nil
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if ok, why := s.cfg.Live(); !ok {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// ready answers 200 if every check is OK, else 503, and lists all of them, a line each.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	var text strings.Builder
	status := http.StatusOK
	for _, check := range s.cfg.Ready() {
		word := "ok"
		if !check.OK {
			word, status = "not ready", http.StatusServiceUnavailable
		}
		fmt.Fprintf(&text, "%s: %s: %s\n", check.Name, word, check.Detail)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprint(w, text.String())
}
