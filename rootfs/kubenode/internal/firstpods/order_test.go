package firstpods

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// update stands for kubelet's type, which has no name here.
type update struct{ Pods []*v1.Pod }

type kubelet struct {
	t         *testing.T
	in        chan<- update
	out, held chan update
	all       chan struct{}
}

func newKubelet(t *testing.T, services []v1.Service, err error) kubelet {
	k := kubelet{t: t, out: make(chan update), held: make(chan update), all: make(chan struct{})}
	source := NewSource[update](k.out, k.held)
	source.All = k.all
	source.Services = func(context.Context) ([]v1.Service, error) { return services, err }
	k.in = source.Order(t.Context())
	return k
}

// gets checks which pods come next.
func (k kubelet) gets(want ...string) {
	k.t.Helper()
	select {
	case got := <-k.out:
		var names []string
		for _, pod := range got.Pods {
			names = append(names, pod.Name)
		}
		if !slices.Equal(names, want) {
			k.t.Fatalf("got %v, not %v", names, want)
		}
	case <-k.held:
		k.t.Fatalf("all pods were said to be there before %v", want)
	case <-time.After(time.Second):
		k.t.Fatalf("%v did not come", want)
	}
}

// knowsAll checks that kubelet is told that it has all pods.
func (k kubelet) knowsAll() {
	k.t.Helper()
	select {
	case got := <-k.held:
		if len(got.Pods) > 0 {
			k.t.Fatalf("the source without pods has %d", len(got.Pods))
		}
	case <-time.After(time.Second):
		k.t.Fatal("kubelet is not told that it has all pods")
	}
	<-k.all
}

var outside = []v1.Service{service("a", v1.ServiceTypeNodePort, map[string]string{"app": "web"})}

func TestTheOtherPodsFollowTheReadyOnes(t *testing.T) {
	k := newKubelet(t, outside, nil)
	k.in <- update{[]*v1.Pod{pod("a", "api"), pod("a", "web")}}
	k.gets("web")
	k.in <- update{[]*v1.Pod{pod("a", "api"), pod("a", "new"), runs(pod("a", "web"), time.Now(), v1.ConditionFalse)}}
	k.gets("web")
	k.in <- update{[]*v1.Pod{pod("a", "api"), pod("a", "new"), runs(pod("a", "web"), time.Now(), v1.ConditionTrue)}}
	k.gets("web")
	k.gets("api", "new", "web")
	k.knowsAll()
	k.in <- update{[]*v1.Pod{pod("a", "later")}}
	k.gets("later")
}

func TestTheOtherPodsFollowWhenTheFirstAreGone(t *testing.T) {
	k := newKubelet(t, outside, nil)
	k.in <- update{[]*v1.Pod{pod("a", "api"), pod("a", "web")}}
	k.gets("web")
	k.in <- update{[]*v1.Pod{pod("a", "api")}}
	k.gets("api")
	k.knowsAll()
}

func TestAllPodsComeAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		services []v1.Service
		err      error
		pods     []*v1.Pod
	}{
		"where there are none":             {outside, nil, nil},
		"where none is reached":            {nil, nil, []*v1.Pod{pod("a", "web"), pod("a", "api")}},
		"where all are reached":            {outside, nil, []*v1.Pod{pod("a", "web")}},
		"where the services are not known": {nil, errors.New("no"), []*v1.Pod{pod("a", "web"), pod("a", "api")}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKubelet(t, c.services, c.err)
			k.in <- update{c.pods}
			var names []string
			for _, pod := range c.pods {
				names = append(names, pod.Name)
			}
			k.gets(names...)
			k.knowsAll()
		})
	}
}
