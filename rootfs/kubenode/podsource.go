package main

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	"k8s.io/kubernetes/pkg/kubelet/config"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	"k8s.io/kubernetes/pkg/kubelet/util"

	"gateway.local/kubenode/internal/firstpods"
)

// nodePoll is how often kubelet's list of nodes is looked at.
const nodePoll = 20 * time.Millisecond

// heldSource names the source of pods that has none: see firstpods.
const heldSource = "held"

// watchPods makes kubelet take pods from the API server as soon as it knows its own node. By itself it looks only once a
// second whether it does, and the first look is always too early: a second of each start.
// It closes `all` when kubelet has been given all pods there were: see firstpods.
func watchPods(ctx context.Context, server *options.KubeletServer, deps *kubelet.Dependencies, all chan<- struct{}) error {
	access, err := clientcmd.BuildConfigFromFlags("", server.KubeConfig)
	if err != nil {
		return err
	}
	client, err := clientset.NewForConfig(access)
	if err != nil {
		return err
	}
	node := types.NodeName(server.HostnameOverride)
	logger := klog.FromContext(ctx)
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := events.NewRecorder(scheme.Scheme, v1.EventSource{Component: "kubelet", Host: string(node)})
	deps.PodStartupLatencyTracker = util.NewPodStartupLatencyTracker()
	made := make(chan *kubelet.Kubelet, 1)
	deps.Options = append(deps.Options, func(k *kubelet.Kubelet) { made <- k })
	pods := config.NewPodConfig(recorder, deps.PodStartupLatencyTracker)
	if server.StaticPodPath != "" {
		config.NewSourceFile(logger, server.StaticPodPath, node, server.FileCheckFrequency.Duration, pods.Channel(ctx, kubetypes.FileSource))
	}
	if server.StaticPodURL != "" {
		config.NewSourceURL(logger, server.StaticPodURL, server.StaticPodURLHeader, node, server.HTTPCheckFrequency.Duration, pods.Channel(ctx, kubetypes.HTTPSource))
	}
	services := func(ctx context.Context) ([]v1.Service, error) {
		list, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			logf("all pods start at once, the services are not known: %v", err)
			return nil, err
		}
		return list.Items, nil
	}
	source := firstpods.NewSource(pods.Channel(ctx, kubetypes.ApiserverSource), pods.Channel(ctx, heldSource))
	source.All, source.Services = all, services
	if len(server.ClusterDNS) > 0 {
		source.DNS = server.ClusterDNS[0]
	}
	config.NewSourceApiserver(logger, client, node, func() bool { return knowsNode(ctx, made) }, source.Order(ctx))
	deps.PodConfig = pods
	return nil
}

// knowsNode returns once kubelet's list has the node: no pod is meant for a node that the API server does not know.
func knowsNode(ctx context.Context, made <-chan *kubelet.Kubelet) bool {
	select {
	case <-ctx.Done():
		return false
	case k := <-made:
		for {
			if _, err := k.GetNode(ctx); err == nil {
				return true
			}
			if pause(ctx, nodePoll) != nil {
				return false
			}
		}
	}
}
