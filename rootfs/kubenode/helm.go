package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	v1 "github.com/k3s-io/helm-controller/pkg/apis/helm.cattle.io/v1"
	"github.com/k3s-io/helm-controller/pkg/controllers/chart"
	"github.com/k3s-io/helm-controller/pkg/generated/controllers/helm.cattle.io"
	helmcontroller "github.com/k3s-io/helm-controller/pkg/generated/controllers/helm.cattle.io/v1"
	"github.com/rancher/lasso/pkg/cache"
	lasso "github.com/rancher/lasso/pkg/client"
	"github.com/rancher/lasso/pkg/controller"
	"github.com/rancher/wrangler/v3/pkg/apply"
	"github.com/rancher/wrangler/v3/pkg/generated/controllers/batch"
	"github.com/rancher/wrangler/v3/pkg/generated/controllers/core"
	"github.com/rancher/wrangler/v3/pkg/generated/controllers/rbac"
	"github.com/rancher/wrangler/v3/pkg/generic"
	"github.com/rancher/wrangler/v3/pkg/schemes"
	"github.com/rancher/wrangler/v3/pkg/start"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	clientcache "k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"gateway.local/kubenode/internal/charts"
	"gateway.local/kubenode/internal/manifests"
)

const (
	// helmName is what k3s calls the controller, on the objects it manages.
	helmName = "helm-controller"
	// helmRole is what a chart's job may do: everything, since a chart may hold anything.
	helmRole = "cluster-admin"
	// helmWorkers for each kind; charts are few.
	helmWorkers = 2
	// helmRetry is the pause after the controller could not start.
	helmRetry = 5 * time.Second
)

// chartKinds sees to it that HelmChart and HelmChartConfig are served.
type chartKinds struct {
	off    bool
	served chan struct{}
	done   bool
}

// ensureChartKinds applies the definitions once a run. A manifest that names them waits for it; all others come first,
// as a definition costs the API server more than most objects do.
func (d *deployer) ensureChartKinds(ctx context.Context, files []manifests.File, last bool) bool {
	if d.kinds.off || d.kinds.done || !last && !charts.Mentioned(files) {
		return true
	}
	objects, digest, err := charts.Kinds()
	if err == nil {
		err = d.applyKinds(ctx, objects, digest)
	}
	if err != nil {
		if ctx.Err() == nil {
			logf("cannot serve HelmChart yet: %v", err)
		}
		return false
	}
	d.kinds.done = true
	close(d.kinds.served)
	return true
}

// kindsName stands for the definitions among the files that are deployed; no file can have it.
const kindsName = "/" + charts.Group

func (d *deployer) applyKinds(ctx context.Context, objects []manifests.Object, digest string) error {
	var refs []manifests.Ref
	for _, object := range objects {
		refs = append(refs, object.Ref)
	}
	if d.isDeployed(ctx, kindsName, digest, refs) {
		return nil
	}
	for _, object := range objects {
		if _, err := d.apply(ctx, object); err != nil {
			return err
		}
	}
	return d.note(ctx, kindsName, digest)
}

// runHelm runs k3s's helm controller as soon as there is a HelmChart. Until then it costs one watch: without the
// controller's own informers no Secret, ConfigMap or Job is kept in memory a second time.
func (c *cluster) runHelm(ctx context.Context, served <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-served:
	}
	for {
		err := c.startHelm(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			<-ctx.Done()
			return nil
		}
		logf("cannot start the helm controller: %v; trying again in %s", err, helmRetry)
		if pause(ctx, helmRetry) != nil {
			return nil
		}
	}
}

func (c *cluster) startHelm(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.layout.Cred("admin.kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS, config.UserAgent = -1, helmName
	if err := firstChart(ctx, config); err != nil {
		return err
	}
	logf("there is a HelmChart: starting the helm controller")
	return c.registerHelm(ctx, config)
}

// firstChart returns when a HelmChart exists.
func firstChart(ctx context.Context, config *rest.Config) error {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	resource := client.Resource(v1.SchemeGroupVersion.WithResource("helmcharts"))
	source := &clientcache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return resource.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return resource.Watch(ctx, options)
		},
	}
	_, err = watchtools.UntilWithSync(ctx, source, &metav1.PartialObjectMetadata{}, nil, func(event watch.Event) (bool, error) {
		return event.Type != watch.Deleted, nil
	})
	return err
}

// registerHelm wires the controller like its own program does, but for the leader election: this node has no other.
func (c *cluster) registerHelm(ctx context.Context, config *rest.Config) error {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[any](5*time.Millisecond, time.Minute)
	clients, err := lasso.NewSharedClientFactory(config, nil)
	if err != nil {
		return err
	}
	shared := controller.NewSharedControllerFactory(cache.NewSharedCachedFactory(clients, nil),
		&controller.SharedControllerFactoryOptions{DefaultRateLimiter: limiter, DefaultWorkers: helmWorkers})
	options := &generic.FactoryOptions{SharedControllerFactory: shared}
	coreFactory, coreErr := core.NewFactoryFromConfigWithOptions(config, options)
	batchFactory, batchErr := batch.NewFactoryFromConfigWithOptions(config, options)
	rbacFactory, rbacErr := rbac.NewFactoryFromConfigWithOptions(config, options)
	helmFactory, helmErr := helm.NewFactoryFromConfigWithOptions(config, options)
	applier, applyErr := apply.NewForConfig(config)
	client, clientErr := kubernetes.NewForConfig(config)
	for _, err := range []error{coreErr, batchErr, rbacErr, helmErr, applyErr, clientErr} {
		if err != nil {
			return fmt.Errorf("cannot make a client: %w", err)
		}
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := events.NewRecorder(schemes.All, corev1.EventSource{Component: helmName, Host: c.settings.NodeName})
	chart.DefaultJobImage = c.settings.HelmJobImage
	chart.Register(ctx, metav1.NamespaceAll, helmName, helmRole, strconv.Itoa(c.settings.Port),
		applier.WithSetOwnerReference(false, false).WithContext(ctx), recorder, batchFactory.Batch().V1(),
		coreFactory.Core().V1(), explaining{helmFactory.Helm().V1()}, rbacFactory.Rbac().V1())
	return start.All(ctx, helmWorkers, coreFactory, batchFactory, rbacFactory, helmFactory)
}

// explaining puts helm's own words into what the controller writes about a chart that failed.
type explaining struct{ helmcontroller.Interface }

func (e explaining) HelmChart() helmcontroller.HelmChartController {
	return explainingCharts{e.Interface.HelmChart()}
}

type explainingCharts struct {
	helmcontroller.HelmChartController
}

func (e explainingCharts) UpdateStatus(chart *v1.HelmChart) (*v1.HelmChart, error) {
	return e.HelmChartController.UpdateStatus(charts.Explain(chart))
}
