package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/layout"
	"gateway.local/kubenode/internal/manifests"
	"gateway.local/kubenode/internal/pki"
)

const (
	// rescan finds what a watch missed, such as a change on a filesystem without notifications.
	rescan = 15 * time.Second
	// Retries of a file that could not be applied.
	firstRetry, lastRetry = 500 * time.Millisecond, 30 * time.Second
	// fieldManager owns the fields that auto-deploy sets.
	fieldManager = "deploy@k3s"
)

// deployer keeps the cluster like the manifests directory says.
type deployer struct {
	dir        string
	disabled   []string
	recordPath string
	client     dynamic.Interface
	heads      metadata.Interface
	mapper     *restmapper.DeferredDiscoveryRESTMapper
	record     manifests.Record
	deployed   map[string]string // what the database remembers: see deployedName
	applied    map[string]string // file name to the digest that is in the cluster, this run
	failing    map[string]failure
	missing    map[string]time.Time // since when a recorded file is gone
	kinds      chartKinds
	// after ends the wait with manifests that did not change: the pods of before come first. Nil for no wait.
	after <-chan struct{}
}

// unsettled asks to come back before objects are deleted; it is no failure.
type unsettled time.Duration

func (u unsettled) Error() string { return "the file is still changing" }

type failure struct {
	digest string
	next   time.Time
	delay  time.Duration
}

func newDeployer(l layout.Layout, s *args.Server) (*deployer, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.Cred("admin.kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.UserAgent = fieldManager
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	heads, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &deployer{
		dir: l.Manifests(), disabled: s.Disable, recordPath: l.AppliedRecord(), client: client, heads: heads,
		mapper:  restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found)),
		record:  manifests.LoadRecord(l.AppliedRecord()),
		applied: map[string]string{}, failing: map[string]failure{}, missing: map[string]time.Time{},
		kinds: chartKinds{off: s.DisableHelm, served: make(chan struct{})},
	}, nil
}

// explainDisabled says once which files are left out because k3s would take them for a disabled component of its own.
func (d *deployer) explainDisabled() {
	for _, name := range d.disabled {
		for _, suffix := range []string{".yaml", ".yml", ".json"} {
			if _, err := os.Stat(filepath.Join(d.dir, name+suffix)); err == nil {
				logf("leaving out %s%s: --disable names that component; rename the file to deploy it", name, suffix)
			}
		}
	}
}

// run applies at once, then on every change, until ctx ends.
func (d *deployer) run(ctx context.Context) error {
	d.explainDisabled()
	d.recall(ctx)
	changes := make(chan struct{}, 1)
	if watcher, err := fsnotify.NewWatcher(); err == nil {
		defer watcher.Close()
		if err := watcher.Add(d.dir); err == nil {
			go forward(watcher, changes)
		}
	}
	d.awaitPods(ctx, changes)
	for {
		delay := d.pass(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		case <-changes:
			// Let an editor or a copy finish its burst of writes.
			time.Sleep(200 * time.Millisecond)
		}
	}
}

func forward(watcher *fsnotify.Watcher, changes chan<- struct{}) {
	for {
		select {
		case _, ok := <-watcher.Events:
			if !ok {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		case err, ok := <-watcher.Errors:
			if !ok {
				return
			}
			logf("cannot watch the manifests: %v", err)
		}
	}
}

// pass brings cluster and directory together once and says when to look again.
func (d *deployer) pass(ctx context.Context) time.Duration {
	files, err := manifests.Scan(d.dir, d.disabled)
	if err != nil {
		logf("cannot read the manifests: %v", err)
		return rescan
	}
	if !d.ensureChartKinds(ctx, files, false) {
		return firstRetry
	}
	wait, now := rescan, time.Now()
	here := map[string]bool{}
	for _, f := range files {
		here[f.Name] = true
		delete(d.missing, f.Name)
		if d.applied[f.Name] == f.Digest {
			continue
		}
		if was, ok := d.failing[f.Name]; ok && was.digest == f.Digest && now.Before(was.next) {
			wait = min(wait, was.next.Sub(now))
			continue
		}
		if _, seen := d.applied[f.Name]; !seen && d.isDeployed(ctx, f.Name, f.Digest, d.record[f.Name]) {
			d.applied[f.Name] = f.Digest
			logf("%s is deployed already", f.Name)
			continue
		}
		wait = min(wait, d.settle(ctx, f.Name, f.Digest, d.applyFile(ctx, f)))
	}
	for name := range maps.Clone(d.record) {
		if !here[name] && !manifests.Skipped(d.dir, name) {
			wait = min(wait, d.settle(ctx, name, "", d.removeFile(ctx, name)))
		}
	}
	if !d.ensureChartKinds(ctx, files, true) {
		wait = min(wait, firstRetry)
	}
	return wait
}

// settle notes how a file went and gives the time until it should be tried again.
func (d *deployer) settle(ctx context.Context, name, digest string, err error) time.Duration {
	if err == nil {
		d.applied[name] = digest
		delete(d.failing, name)
		return rescan
	}
	if ctx.Err() != nil {
		return rescan
	}
	if rest, ok := errors.AsType[unsettled](err); ok {
		return time.Duration(rest)
	}
	delay := firstRetry
	if was, ok := d.failing[name]; ok && was.digest == digest {
		delay = min(was.delay*2, lastRetry)
	}
	d.failing[name] = failure{digest, time.Now().Add(delay), delay}
	logf("cannot deploy %s: %v; trying again in %s", name, err, delay)
	return delay
}

func (d *deployer) applyFile(ctx context.Context, f manifests.File) error {
	objects, err := manifests.Parse(f)
	if err != nil {
		return err
	}
	if err := d.note(ctx, f.Name, ""); err != nil {
		return err
	}
	var refs []manifests.Ref
	var errs []error
	began := time.Now()
	for _, object := range manifests.Order(objects) {
		ref, err := d.apply(ctx, object)
		refs = append(refs, ref)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", ref, err))
		}
	}
	if len(errs) > 0 {
		// What did arrive must be known, or nothing would ever delete it.
		d.remember(f.Name, append(refs, manifests.Prune(d.record, f.Name, refs)...))
		return errors.Join(errs...)
	}
	gone := manifests.Prune(d.record, f.Name, refs)
	if rest := manifests.Unsettled(f.Changed, time.Now()); len(gone) > 0 && rest > 0 {
		d.remember(f.Name, append(refs, gone...))
		return unsettled(rest)
	}
	for _, ref := range gone {
		if err := d.delete(ctx, ref); err != nil {
			d.remember(f.Name, append(refs, gone...))
			return fmt.Errorf("deleting %s: %w", ref, err)
		}
	}
	d.remember(f.Name, refs)
	if err := d.note(ctx, f.Name, f.Digest); err != nil {
		return err
	}
	logf("deployed %s: %d objects applied, %d deleted, %s", f.Name, len(refs), len(gone), time.Since(began).Round(time.Millisecond))
	return nil
}

func (d *deployer) removeFile(ctx context.Context, name string) error {
	since, known := d.missing[name]
	if !known {
		since = time.Now()
		d.missing[name] = since
	}
	if rest := manifests.Unsettled(since, time.Now()); rest > 0 {
		return unsettled(rest)
	}
	delete(d.missing, name)
	if err := d.note(ctx, name, ""); err != nil {
		return err
	}
	gone := manifests.Prune(d.record, name, nil)
	for _, ref := range gone {
		if err := d.delete(ctx, ref); err != nil {
			return fmt.Errorf("deleting %s: %w", ref, err)
		}
	}
	delete(d.applied, name)
	d.remember(name, nil)
	logf("removed %s: %d objects deleted", name, len(gone))
	return nil
}

func (d *deployer) remember(name string, refs []manifests.Ref) {
	if len(refs) == 0 {
		delete(d.record, name)
	} else {
		d.record[name] = refs
	}
	data, err := d.record.Encode()
	if err == nil {
		err = pki.WriteFile(d.recordPath, data, 0o600)
	}
	if err != nil {
		logf("cannot remember what was deployed: %v", err)
	}
}

// mapping finds an object's resource; a kind that is not known asks the API server again once.
func (d *deployer) mapping(ref manifests.Ref) (*meta.RESTMapping, error) {
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	mapping, err := d.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		d.mapper.Reset()
		mapping, err = d.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	return mapping, err
}

// resource finds how to reach an object, and sets or takes away its namespace as its kind has one or not.
func (d *deployer) resource(ref *manifests.Ref) (dynamic.ResourceInterface, error) {
	mapping, err := d.mapping(*ref)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		ref.Namespace = ""
		return d.client.Resource(mapping.Resource), nil
	}
	if ref.Namespace == "" {
		ref.Namespace = metav1.NamespaceDefault
	}
	return d.client.Resource(mapping.Resource).Namespace(ref.Namespace), nil
}

func (d *deployer) apply(ctx context.Context, object manifests.Object) (manifests.Ref, error) {
	ref := object.Ref
	resource, err := d.resource(&ref)
	if err != nil {
		return ref, err
	}
	body, err := json.Marshal(object.Fields)
	if err != nil {
		return ref, err
	}
	force := true
	_, err = resource.Patch(ctx, ref.Name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	if err == nil && ref.Kind == "CustomResourceDefinition" {
		err = established(ctx, resource, ref.Name)
		d.mapper.Reset()
	}
	return ref, err
}

// established waits until a new kind is served, so that the objects that follow it in the file find it.
func established(ctx context.Context, resource dynamic.ResourceInterface, name string) error {
	for range 50 {
		definition, err := resource.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(definition.Object, "status", "conditions")
		for _, entry := range conditions {
			condition, _ := entry.(map[string]any)
			if condition["type"] == "Established" && condition["status"] == "True" {
				return nil
			}
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the API server has not established it after 10 s")
}

func (d *deployer) delete(ctx context.Context, ref manifests.Ref) error {
	resource, err := d.resource(&ref)
	if meta.IsNoMatchError(err) {
		return nil // its kind is gone, and so is it
	}
	if err != nil {
		return err
	}
	policy := metav1.DeletePropagationBackground
	err = resource.Delete(ctx, ref.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
