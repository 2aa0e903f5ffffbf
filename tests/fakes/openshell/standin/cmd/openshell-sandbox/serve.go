package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gateway.local/standin/wire"
)

// serve runs programs for who shows the session that the gateway gave to this supervisor.
func serve(session string) error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", wire.SupervisorPort))
	if err != nil {
		return err
	}
	known := func(ctx context.Context) error {
		headers, _ := metadata.FromIncomingContext(ctx)
		shown := headers.Get("authorization")
		if len(shown) == 1 && subtle.ConstantTimeCompare([]byte(shown[0]), []byte("Bearer "+session)) == 1 {
			return nil
		}
		return status.Error(codes.Unauthenticated, "not the session of this sandbox")
	}
	server := grpc.NewServer(grpc.ForceServerCodec(wire.Codec{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: wire.SupervisorService,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			wire.Unary(wire.SupervisorService, "Ping", func(ctx context.Context, _ *wire.Empty) (*wire.Empty, error) {
				return &wire.Empty{}, known(ctx)
			}),
		},
		Streams: []grpc.StreamDesc{
			wire.Streaming("Exec", func(
				ctx context.Context, request *wire.ExecRequest, send func(*wire.ExecEvent) error,
			) error {
				if err := known(ctx); err != nil {
					return err
				}
				return run(ctx, request, send)
			}),
		},
	}, session)
	return server.Serve(listener)
}

// run starts the program and passes its output on while it comes.
func run(ctx context.Context, request *wire.ExecRequest, send func(*wire.ExecEvent) error) error {
	if len(request.Command) == 0 {
		return status.Error(codes.InvalidArgument, "no command")
	}
	out := &sender{send: send}
	program := inSandbox(ctx, request.Command)
	program.Stdin = bytes.NewReader(request.Stdin)
	program.Stdout = pipe{func(data []byte) error { return out.pass(&wire.ExecEvent{Stdout: data}) }}
	program.Stderr = pipe{func(data []byte) error { return out.pass(&wire.ExecEvent{Stderr: data}) }}
	err := program.Run()
	code := program.ProcessState.ExitCode()
	var exit *exec.ExitError
	switch {
	case program.ProcessState == nil:
		_ = out.pass(&wire.ExecEvent{Stderr: []byte(err.Error() + "\n")})
		code = 127
	case err != nil && !errors.As(err, &exit):
		return status.Error(codes.Internal, err.Error())
	}
	return out.pass(&wire.ExecEvent{Exit: &wire.ExecExit{Code: int32(code)}})
}

// sender keeps the two outputs of a program from writing to the stream at the same time.
type sender struct {
	mu   sync.Mutex
	send func(*wire.ExecEvent) error
}

func (s *sender) pass(event *wire.ExecEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(event)
}

type pipe struct{ pass func([]byte) error }

func (p pipe) Write(data []byte) (int, error) {
	return len(data), p.pass(slices.Clone(data))
}
