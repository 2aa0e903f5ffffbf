// Package firstpods says which pods of a run before start first, and when the others may follow. A machine that starts all
// of its pods at once has each of them ready late; who started the cluster waits for what he reaches from outside.
package firstpods

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// The machine's own pace is the measure: the time until the containers of the first pods run. Emulated it is fifteen
// seconds, on a real processor one.
const (
	// leastReady and mostReady bound the pace as the time in which pods whose containers run should get ready: they may need
	// the others for that.
	leastReady, mostReady = 2 * time.Second, 10 * time.Second
	// mostGrace bounds half of the pace as what ready pods are given: who waited for them has questions then.
	mostGrace = 5 * time.Second
	// budget bounds how long the others wait at all, such as for an init container that needs one of them.
	budget = 25 * time.Second
)

// Pick gives the pods that a Service leads to from outside the cluster, by a port of the node, and those that answer for
// names at the address dns, without which the former can find nothing; unless they have ended or are being deleted.
func Pick(services []v1.Service, dns string, pods []*v1.Pod) Set {
	first := Set{}
	for _, pod := range pods {
		ended := pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
		if !ended && pod.DeletionTimestamp == nil && isFirst(services, dns, pod) {
			first[pod.UID] = true
		}
	}
	return first
}

// Set is a choice of pods.
type Set map[types.UID]bool

// Of gives those of pods that were chosen.
func (s Set) Of(pods []*v1.Pod) []*v1.Pod {
	var chosen []*v1.Pod
	for _, pod := range pods {
		if s[pod.UID] {
			chosen = append(chosen, pod)
		}
	}
	return chosen
}

func isFirst(services []v1.Service, dns string, pod *v1.Pod) bool {
	for _, service := range services {
		outside := service.Spec.Type == v1.ServiceTypeNodePort || service.Spec.Type == v1.ServiceTypeLoadBalancer
		names := dns != "" && service.Spec.ClusterIP == dns
		// A Service without a selector has no pods, and an empty selector would match all.
		if (outside || names) && service.Namespace == pod.Namespace && len(service.Spec.Selector) > 0 &&
			labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			return true
		}
	}
	return false
}

// Wait is how long the other pods have waited, and for what.
type Wait struct {
	// Booted is when the machine started: what a pod's status says of a container of before is out of date.
	Booted time.Time
	// Began is when the first pods were given to kubelet.
	Began      time.Time
	ran, ready time.Time
}

// Left gives the time for which the others still have to wait, unless the pods' status changes before; 0 when they need not.
func (w *Wait) Left(first []*v1.Pod, now time.Time) time.Duration {
	running, ready := true, true
	for _, pod := range first {
		running = running && w.runs(pod)
		ready = ready && isReady(pod)
	}
	w.ran = since(w.ran, running, now)
	w.ready = since(w.ready, running && ready, now)
	pace := w.ran.Sub(w.Began)
	end := w.Began.Add(budget)
	switch {
	case running && ready:
		end = w.ready.Add(min(pace/2, mostGrace))
	case running && w.ran.Add(max(leastReady, min(pace, mostReady))).Before(end):
		end = w.ran.Add(max(leastReady, min(pace, mostReady)))
	}
	return max(0, end.Sub(now))
}

// since keeps the time at which something became true, and forgets it when it is no longer.
func since(at time.Time, is bool, now time.Time) time.Time {
	switch {
	case !is:
		return time.Time{}
	case at.IsZero():
		return now
	}
	return at
}

// runs says whether all containers of the pod run and were started since the boot.
func (w *Wait) runs(pod *v1.Pod) bool {
	for _, container := range pod.Status.ContainerStatuses {
		if container.State.Running == nil || container.State.Running.StartedAt.Time.Before(w.Booted) {
			return false
		}
	}
	return len(pod.Status.ContainerStatuses) == len(pod.Spec.Containers)
}

func isReady(pod *v1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == v1.PodReady {
			return condition.Status == v1.ConditionTrue
		}
	}
	return false
}
