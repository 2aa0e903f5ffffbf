package netpol

import (
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
)

// engineIndex is the name under which the engine looks pods up by address.
const engineIndex = "podIPKeyIndex"

// addresses knows which pod has which address.
type addresses struct {
	sandboxes *sandboxes

	mutex sync.Mutex
	gone  map[string]*corev1.Pod // by address: deleted pods whose sandbox may still be there
}

// ForEngine is an informer of pods, not started yet, as the engine is to see it: pods are reduced to what policies look
// at, and an address leads to the pod that has it now.
func ForEngine(inner cache.SharedIndexInformer, results string) (cache.SharedIndexInformer, error) {
	p := &addresses{sandboxes: &sandboxes{dir: results}, gone: map[string]*corev1.Pod{}}
	if err := inner.SetTransform(trim); err != nil {
		return nil, err
	}
	_, err := inner.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: p.remember})
	return &podInformer{inner, p}, err
}

type podInformer struct {
	cache.SharedIndexInformer
	pods *addresses
}

// SetTransform keeps the one that is set: the engine's own would keep more.
func (*podInformer) SetTransform(cache.TransformFunc) error { return nil }

func (i *podInformer) GetIndexer() cache.Indexer {
	return podIndexer{i.SharedIndexInformer.GetIndexer(), i.pods}
}

type podIndexer struct {
	cache.Indexer
	pods *addresses
}

// ByIndex finds at most one pod: the one that has the address now.
func (i podIndexer) ByIndex(name, value string) ([]any, error) {
	if name != engineIndex {
		return i.Indexer.ByIndex(name, value)
	}
	if pod := i.pods.owner(i.Indexer, value); pod != nil {
		return []any{pod}, nil
	}
	return nil, nil
}

func (p *addresses) owner(indexer cache.Indexer, address string) *corev1.Pod {
	key := p.sandboxes.keyOf(address)
	if object, found, err := indexer.GetByKey(key); err == nil && found {
		return object.(*corev1.Pod)
	}
	if key == "" { // its sandbox was not made by the CNI library of this node
		objects, err := indexer.ByIndex(engineIndex, address)
		if err == nil && len(objects) > 0 {
			return objects[0].(*corev1.Pod)
		}
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	pod := p.gone[address]
	if pod != nil && key != "" && key != pod.Namespace+"/"+pod.Name {
		return nil
	}
	return pod
}

// remember keeps a deleted pod until its address has another owner: its containers can outlive a forced deletion, and
// its policies still hold for them.
func (p *addresses) remember(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, ip := range pod.Status.PodIPs {
		p.gone[ip.IP] = pod
	}
}

// trim keeps what policies look at. A pod on the node's network and one that has ended have no address of their own.
func trim(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Labels: pod.Labels,
	}}
	out.Spec.HostNetwork = pod.Spec.HostNetwork
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if len(container.Ports) > 0 {
			out.Spec.Containers = append(out.Spec.Containers, corev1.Container{Ports: container.Ports})
		}
	}
	out.Status.Phase = pod.Status.Phase
	if !pod.Spec.HostNetwork && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		out.Status.PodIPs = pod.Status.PodIPs
	}
	return out, nil
}

// TrimMeta drops what no policy looks at from an object of another kind.
func TrimMeta(object any) (any, error) {
	if meta, ok := object.(metav1.Object); ok {
		meta.SetManagedFields(nil)
	}
	return object, nil
}

// RulesFor sorts the addresses of pods. Those of a pod that no policy selects are open, but only where its sandbox says
// that it has them: what the API server knows can be from before the last boot, and belong to another pod by now.
// A pod with a policy is judged even where its address is outside of the network.
func RulesFor(
	network string, owners map[string]string, pods []*corev1.Pod, policies []*networkingv1.NetworkPolicy,
) Rules {
	selectors := map[string][]labels.Selector{}
	for _, policy := range policies {
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil {
			selector = labels.Everything() // the API server takes no such selector; the stricter side if it does
		}
		selectors[policy.Namespace] = append(selectors[policy.Namespace], selector)
	}
	rules := Rules{Pods: []string{network}}
	selected := map[string]bool{} // by NAMESPACE/NAME
	for _, pod := range pods {
		matches := func(selector labels.Selector) bool { return selector.Matches(labels.Set(pod.Labels)) }
		isSelected := slices.ContainsFunc(selectors[pod.Namespace], matches)
		selected[pod.Namespace+"/"+pod.Name] = isSelected
		for _, ip := range pod.Status.PodIPs {
			if isSelected {
				rules.judge(ip.IP, network)
			}
		}
	}
	for address, key := range owners {
		isSelected, known := selected[key]
		if ip, err := netip.ParseAddr(address); err != nil || !ip.Is4() || !known {
			continue
		}
		if isSelected {
			rules.judge(address, network)
		} else {
			rules.Open = append(rules.Open, address)
		}
	}
	return rules
}

func (r *Rules) judge(address, network string) {
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is4() {
		return
	}
	r.Judged = append(r.Judged, address)
	if prefix, err := netip.ParsePrefix(network); err != nil || !prefix.Contains(ip) {
		r.Pods = append(r.Pods, address)
	}
}
