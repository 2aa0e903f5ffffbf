package main

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.local/standin/wire"
)

var (
	errNoHeader = errors.New("missing authorization header")
	errNoLogin  = errors.New("no provider of logins is configured")
	goodName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$`)
)

type gateway struct {
	config  *config
	keys    *sandboxKeys
	oidc    *oidc
	db      *database
	cluster *cluster
}

func newGateway(ctx context.Context, c *config, dbPath string) (*gateway, error) {
	g := &gateway{config: c}
	var err error
	if g.keys, err = loadSandboxKeys(c); err != nil {
		return nil, err
	}
	if c.hasOIDC() {
		if g.oidc, err = newOIDC(ctx, c.Gateway.OIDC); err != nil {
			return nil, err
		}
	}
	if g.db, err = openDatabase(dbPath); err != nil {
		return nil, err
	}
	g.cluster, err = newCluster(c.Drivers.Kubernetes)
	return g, err
}

func newServer(g *gateway) *grpc.Server {
	server := grpc.NewServer(
		grpc.ForceServerCodec(wire.Codec{}),
		grpc.UnaryInterceptor(g.guardUnary),
		grpc.StreamInterceptor(g.guardStream),
	)
	name := wire.Service
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: name,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			wire.Unary(name, "Health", g.health),
			wire.Unary(name, "GetCurrentUser", g.currentUser),
			wire.Unary(name, "CreateSandbox", g.createSandbox),
			wire.Unary(name, "GetSandbox", g.getSandbox),
			wire.Unary(name, "ListSandboxes", g.listSandboxes),
			wire.Unary(name, "DeleteSandbox", g.deleteSandbox),
			wire.Unary(name, "CreateProvider", g.createProvider),
			wire.Unary(name, "ListProviders", g.listProviders),
			wire.Unary(name, "IssueSandboxToken", g.issueSandboxToken),
			wire.Unary(name, "GetSandboxPolicy", g.getSandboxPolicy),
		},
		Streams: []grpc.StreamDesc{wire.Streaming("ExecSandbox", g.execSandbox)},
	}, g)
	return server
}

func (g *gateway) health(context.Context, *wire.Empty) (*wire.HealthAnswer, error) {
	return &wire.HealthAnswer{Status: wire.Healthy, Version: version}, nil
}

func (g *gateway) currentUser(ctx context.Context, _ *wire.Empty) (*wire.CurrentUser, error) {
	who := caller(ctx)
	return &wire.CurrentUser{Subject: who.subject, Roles: who.roles, Means: who.means}, nil
}

func (g *gateway) createSandbox(ctx context.Context, request *wire.CreateRequest) (*wire.Sandbox, error) {
	if !goodName.MatchString(request.Name) {
		return nil, status.Errorf(codes.InvalidArgument, "invalid sandbox name %q", request.Name)
	}
	made := record{ID: rand.Text(), Name: request.Name}
	err := g.db.change(func(d *data) error {
		if d.sandbox(made.Name) != nil {
			return status.Errorf(codes.AlreadyExists, "sandbox %q already exists", made.Name)
		}
		d.Sandboxes = append(d.Sandboxes, made)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := g.cluster.create(ctx, made, request); err != nil {
		_ = g.db.change(func(d *data) error { d.remove(made.Name); return nil })
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &wire.Sandbox{ID: made.ID, Name: made.Name, Phase: phaseProvisioning}, nil
}

func (d *data) remove(name string) bool {
	before := len(d.Sandboxes)
	d.Sandboxes = slices.DeleteFunc(d.Sandboxes, func(one record) bool { return one.Name == name })
	return len(d.Sandboxes) < before
}

func (g *gateway) find(name string) (*record, error) {
	data := g.db.read()
	found := data.sandbox(name)
	if found == nil {
		return nil, status.Errorf(codes.NotFound, "sandbox %q not found", name)
	}
	return found, nil
}

func (g *gateway) getSandbox(ctx context.Context, request *wire.NameRequest) (*wire.Sandbox, error) {
	found, err := g.find(request.Name)
	if err != nil {
		return nil, err
	}
	phase, reason := g.cluster.phase(ctx, found.Name)
	return &wire.Sandbox{ID: found.ID, Name: found.Name, Phase: phase, Reason: reason}, nil
}

func (g *gateway) listSandboxes(ctx context.Context, _ *wire.Empty) (*wire.SandboxList, error) {
	list := &wire.SandboxList{}
	for _, one := range g.db.read().Sandboxes {
		phase, reason := g.cluster.phase(ctx, one.Name)
		list.Sandboxes = append(list.Sandboxes, wire.Sandbox{ID: one.ID, Name: one.Name, Phase: phase, Reason: reason})
	}
	return list, nil
}

func (g *gateway) deleteSandbox(ctx context.Context, request *wire.NameRequest) (*wire.DeleteAnswer, error) {
	if _, err := g.find(request.Name); err != nil {
		return nil, err
	}
	if err := g.cluster.remove(ctx, request.Name); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	answer := &wire.DeleteAnswer{}
	err := g.db.change(func(d *data) error { answer.Deleted = d.remove(request.Name); return nil })
	return answer, err
}

func (g *gateway) createProvider(_ context.Context, request *wire.Provider) (*wire.Provider, error) {
	if !goodName.MatchString(request.Name) {
		return nil, status.Errorf(codes.InvalidArgument, "invalid provider name %q", request.Name)
	}
	return request, g.db.change(func(d *data) error {
		if slices.ContainsFunc(d.Providers, func(one wire.Provider) bool { return one.Name == request.Name }) {
			return status.Errorf(codes.AlreadyExists, "provider %q already exists", request.Name)
		}
		d.Providers = append(d.Providers, *request)
		return nil
	})
}

func (g *gateway) listProviders(context.Context, *wire.Empty) (*wire.ProviderList, error) {
	return &wire.ProviderList{Providers: g.db.read().Providers}, nil
}

// issueSandboxToken takes the token of a sandbox's ServiceAccount, and gives one of the gateway's for it.
func (g *gateway) issueSandboxToken(ctx context.Context, _ *wire.Empty) (*wire.SandboxToken, error) {
	token := bearer(ctx)
	if token == "" {
		return nil, status.Error(codes.Unauthenticated, errNoHeader.Error())
	}
	id, err := g.cluster.sandboxOf(ctx, token)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	answer := &wire.SandboxToken{Session: rand.Text()}
	err = g.db.change(func(d *data) error {
		at := slices.IndexFunc(d.Sandboxes, func(one record) bool { return one.ID == id })
		if at < 0 {
			return status.Error(codes.Unauthenticated, "the token's sandbox is not known here")
		}
		d.Sandboxes[at].Session = answer.Session
		return nil
	})
	if err != nil {
		return nil, err
	}
	answer.Token, err = g.keys.mint(id)
	return answer, err
}

func (g *gateway) getSandboxPolicy(context.Context, *wire.Empty) (*wire.Policy, error) {
	return &wire.Policy{Version: 1}, nil
}
