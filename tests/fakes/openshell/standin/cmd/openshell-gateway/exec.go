package main

import (
	"context"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gateway.local/standin/wire"
)

// reachTimeout is for a connection to a supervisor; NetworkPolicies and slow guests take their time.
const reachTimeout = 30 * time.Second

// execSandbox runs a program by the sandbox's supervisor and passes on what that says.
func (g *gateway) execSandbox(ctx context.Context, request *wire.ExecRequest, send func(*wire.ExecEvent) error) error {
	found, err := g.find(request.Name)
	if err != nil {
		return err
	}
	if phase, reason := g.cluster.phase(ctx, found.Name); phase != phaseReady {
		return status.Errorf(codes.FailedPrecondition, "sandbox is not ready (phase: %s%s)", phase, reason)
	}
	address, err := g.cluster.address(ctx, found.Name)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	supervisor, err := grpc.NewClient(
		"passthrough:///"+net.JoinHostPort(address, strconv.Itoa(wire.SupervisorPort)),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.Codec{}), grpc.WaitForReady(true)),
	)
	if err != nil {
		return err
	}
	defer supervisor.Close()
	if err := reach(ctx, supervisor, found.Session); err != nil {
		return status.Errorf(codes.Unavailable, "supervisor not reachable: %v", err)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+found.Session)
	return wire.CallStreaming(ctx, supervisor, "/"+wire.SupervisorService+"/Exec", request, send)
}

// reach bounds how long the supervisor may need to answer at all; what it runs has no bound.
func reach(ctx context.Context, supervisor *grpc.ClientConn, session string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+session)
	_, err := wire.Call[wire.Empty](ctx, supervisor, "/"+wire.SupervisorService+"/Ping", &wire.Empty{})
	return err
}
