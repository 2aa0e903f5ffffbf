package firstpods

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var boot = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func service(namespace string, kind v1.ServiceType, selector map[string]string) v1.Service {
	return v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "service"},
		Spec:       v1.ServiceSpec{Type: kind, Selector: selector},
	}
}

func pod(namespace, app string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: app, UID: types.UID(app), Labels: map[string]string{"app": app, "more": "x"}},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "main"}}},
	}
}

// runs gives the pod's only container a start, and the pod readiness or not.
func runs(p *v1.Pod, at time.Time, ready v1.ConditionStatus) *v1.Pod {
	p.Status.ContainerStatuses = []v1.ContainerStatus{{
		State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}},
	}}
	p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: ready}}
	return p
}

func TestPicksWhatIsReachedFromOutside(t *testing.T) {
	web := map[string]string{"app": "web"}
	names := service("a", v1.ServiceTypeClusterIP, web)
	names.Spec.ClusterIP = "10.43.0.10"
	for name, c := range map[string]struct {
		service v1.Service
		want    bool
	}{
		"a port of the node":       {service("a", v1.ServiceTypeNodePort, web), true},
		"a load balancer has one":  {service("a", v1.ServiceTypeLoadBalancer, web), true},
		"the cluster's names":      {names, true},
		"inside the cluster only":  {service("a", v1.ServiceTypeClusterIP, web), false},
		"another namespace":        {service("b", v1.ServiceTypeNodePort, web), false},
		"other labels":             {service("a", v1.ServiceTypeNodePort, map[string]string{"app": "api"}), false},
		"all labels have to match": {service("a", v1.ServiceTypeNodePort, map[string]string{"app": "web", "x": "y"}), false},
		"no selector at all":       {service("a", v1.ServiceTypeNodePort, nil), false},
	} {
		pods := []*v1.Pod{pod("a", "other"), pod("a", "web")}
		got := Pick([]v1.Service{c.service}, "10.43.0.10", pods).Of(pods)
		if len(got) == 1 != c.want || len(got) > 1 {
			t.Errorf("%s: picked %d pods", name, len(got))
		}
		if len(got) == 1 && got[0].Name != "web" {
			t.Errorf("%s: picked %s", name, got[0].Name)
		}
	}
}

func TestPicksNoPodThatHasEndedOrIsToEnd(t *testing.T) {
	services := []v1.Service{service("a", v1.ServiceTypeNodePort, map[string]string{"app": "web"})}
	done, failed, going := pod("a", "web"), pod("a", "web"), pod("a", "web")
	done.Status.Phase, failed.Status.Phase = v1.PodSucceeded, v1.PodFailed
	going.DeletionTimestamp = &metav1.Time{Time: boot}
	if got := Pick(services, "", []*v1.Pod{done, failed, going}); len(got) != 0 {
		t.Errorf("picked %d pods", len(got))
	}
}

func TestTheOthersWait(t *testing.T) {
	second := func(n int) time.Time { return boot.Add(time.Duration(n) * time.Second) }
	type look struct {
		at    int
		first *v1.Pod
		left  time.Duration
	}
	for name, looks := range map[string][]look{
		"until the first are ready, and half as long as it took until they ran": {
			{10, pod("a", "web"), 25 * time.Second},
			{14, runs(pod("a", "web"), second(14), v1.ConditionFalse), 4 * time.Second},
			{16, runs(pod("a", "web"), second(14), v1.ConditionTrue), 2 * time.Second},
			{18, runs(pod("a", "web"), second(14), v1.ConditionTrue), 0},
		},
		"five seconds more at most": {
			{30, runs(pod("a", "web"), second(30), v1.ConditionTrue), 5 * time.Second},
			{35, runs(pod("a", "web"), second(30), v1.ConditionTrue), 0},
		},
		"not for pods that run already": {
			{10, runs(pod("a", "web"), second(9), v1.ConditionTrue), 0},
		},
		"not for a status of before the boot": {
			{10, runs(pod("a", "web"), second(-60), v1.ConditionTrue), 25 * time.Second},
			{34, runs(pod("a", "web"), second(-60), v1.ConditionTrue), 1 * time.Second},
			{35, runs(pod("a", "web"), second(-60), v1.ConditionTrue), 0},
		},
		"for a container that runs as long again as it took, two to ten seconds": {
			{11, runs(pod("a", "web"), second(11), v1.ConditionFalse), 2 * time.Second},
			{12, pod("a", "web"), 23 * time.Second},
			{16, runs(pod("a", "web"), second(16), v1.ConditionFalse), 6 * time.Second},
			{22, runs(pod("a", "web"), second(16), v1.ConditionFalse), 0},
			{23, pod("a", "web"), 12 * time.Second},
			{24, runs(pod("a", "web"), second(24), v1.ConditionFalse), 10 * time.Second},
		},
		"never longer than 25 for one that does not get ready": {
			{10, pod("a", "web"), 25 * time.Second},
			{33, runs(pod("a", "web"), second(33), v1.ConditionFalse), 2 * time.Second},
		},
	} {
		wait := Wait{Booted: boot, Began: second(10)}
		for _, l := range looks {
			if got := wait.Left([]*v1.Pod{l.first}, second(l.at)); got != l.left {
				t.Errorf("%s: %s left in second %d, not %s", name, got, l.at, l.left)
			}
		}
	}
}

func TestAPodWithoutAllItsContainersIsNotRunning(t *testing.T) {
	two := runs(pod("a", "web"), boot, v1.ConditionTrue)
	two.Spec.Containers = append(two.Spec.Containers, v1.Container{Name: "side"})
	wait := Wait{Booted: boot, Began: boot}
	if got := wait.Left([]*v1.Pod{two}, boot); got != budget {
		t.Errorf("%s left", got)
	}
}
