package main

import (
	"context"
	"errors"
	"time"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-base/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
)

const (
	// defaultsNote is the database's note of the version whose default objects it has.
	defaultsNote = "default-objects"
	// defaultsLater is when a database that has them is checked. It takes 150 requests, and a second of waiting.
	defaultsLater = time.Minute
)

// defaultObjects are the roles and priority classes that every cluster has.
var defaultObjects = []genericapiserver.PostStartHookProvider{rbacrest.RESTStorageProvider{}, schedulingrest.RESTStorageProvider{}}

// runAPIServer does what kube-apiserver's main does with its options, but for two things that a start need not wait for:
// the documents of OpenAPI, and the look at default objects that are there.
func (c *cluster) runAPIServer(ctx context.Context, o options.CompletedOptions, flags []string) error {
	name, err := cache.NewInformerName("kube-apiserver")
	if err != nil {
		return err
	}
	o.InformerName = name
	config, err := app.NewConfig(o)
	if err != nil {
		return err
	}
	core := config.KubeAPIs.ControlPlane.Generic
	core.SkipOpenAPIInstallation = true
	late, err := c.lateHooks(ctx)
	if err != nil {
		return err
	}
	for name := range late {
		core.DisabledPostStartHooks.Insert(name)
	}
	completed, err := config.Complete()
	if err != nil {
		return err
	}
	chain, err := app.CreateServerChain(completed)
	if err != nil {
		return err
	}
	builtIn, ok := chain.GenericAPIServer.NextDelegate().(*genericapiserver.GenericAPIServer)
	if !ok {
		return errors.New("the aggregator does not stand before the API server")
	}
	newOpenAPIDocuments(builtIn.Handler.GoRestfulContainer, core.OpenAPIConfig, core.OpenAPIV3Config, flags).serve(builtIn)
	for name, hook := range late {
		if err := chain.GenericAPIServer.AddPostStartHook(name+"-later", afterTheStart(name, hook)); err != nil {
			return err
		}
	}
	prepared, err := chain.PrepareRun()
	if err != nil {
		return err
	}
	return prepared.Run(ctx)
}

// lateHooks gives what makes the default objects, by name, when an API server of this version has made them in this
// database already; what somebody took away of them comes back all the same, but later.
func (c *cluster) lateHooks(ctx context.Context) (map[string]genericapiserver.PostStartHookFunc, error) {
	if noted, err := c.kine.noted(ctx, defaultsNote); err != nil || noted != version.Get().GitVersion {
		return nil, err
	}
	late := map[string]genericapiserver.PostStartHookFunc{}
	for _, provider := range defaultObjects {
		name, hook, err := provider.PostStartHook()
		if err != nil {
			return nil, err
		}
		late[name] = hook
	}
	return late, nil
}

// noteDefaults is called when the API server is ready, so that the default objects are there.
func (c *cluster) noteDefaults(ctx context.Context) {
	if err := c.kine.note(ctx, defaultsNote, version.Get().GitVersion); err != nil && ctx.Err() == nil {
		logf("the next start waits for the default objects again: %v", err)
	}
}

func afterTheStart(name string, hook genericapiserver.PostStartHookFunc) genericapiserver.PostStartHookFunc {
	return func(server genericapiserver.PostStartHookContext) error {
		go func() {
			if pause(server, defaultsLater) != nil {
				return
			}
			if err := hook(server); err != nil && server.Err() == nil {
				logf("%s: %v; the next start tries again", name, err)
			}
		}()
		return nil
	}
}
