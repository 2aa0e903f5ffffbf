package main

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gateway.local/standin/wire"
)

// principal is who calls.
type principal struct {
	subject string
	roles   []string
	means   string
	sandbox bool
}

type principalKey struct{}

func caller(ctx context.Context) *principal {
	found, _ := ctx.Value(principalKey{}).(*principal)
	return found
}

// forAnyone needs no login; forSandboxes takes the token of a sandbox and nothing else.
var (
	forAnyone    = map[string]bool{wire.Method("Health"): true, wire.Method("IssueSandboxToken"): true}
	forSandboxes = map[string]bool{wire.Method("GetSandboxPolicy"): true}
)

// bearer is the token of a call; "" without one.
func bearer(ctx context.Context) string {
	headers, _ := metadata.FromIncomingContext(ctx)
	for _, value := range headers.Get("authorization") {
		if scheme, token, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "bearer") {
			return token
		}
	}
	return ""
}

func (g *gateway) admit(ctx context.Context, method string) (context.Context, error) {
	if forAnyone[method] {
		return ctx, nil
	}
	who, err := g.identify(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	if who.sandbox != forSandboxes[method] {
		return nil, status.Errorf(codes.PermissionDenied, "%s may not call %s", who.means, method)
	}
	return context.WithValue(ctx, principalKey{}, who), nil
}

func (g *gateway) identify(ctx context.Context) (*principal, error) {
	token := bearer(ctx)
	if token != "" && g.keys.isOurs(token) {
		return g.keys.check(token)
	}
	if token != "" && g.oidc != nil {
		return g.oidc.check(ctx, token)
	}
	if g.config.Gateway.Auth.AllowUnauthenticatedUsers {
		return &principal{
			subject: "unauthenticated-local-dev", means: "mTLS transport",
			roles: []string{"openshell-admin", "openshell-user"},
		}, nil
	}
	if token != "" {
		return nil, errNoLogin
	}
	return nil, errNoHeader
}

func (g *gateway) guardUnary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (g *gateway) guardStream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	ctx, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handle(server, &admitted{stream, ctx})
}

// admitted is a stream whose caller is known.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a *admitted) Context() context.Context { return a.ctx }
