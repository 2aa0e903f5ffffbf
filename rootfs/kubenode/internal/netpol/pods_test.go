package netpol

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

func pod(name, app string, ips ...string) *corev1.Pod {
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{"app": app}}}
	out.Status.Phase = corev1.PodRunning
	for _, address := range ips {
		out.Status.PodIPs = append(out.Status.PodIPs, corev1.PodIP{IP: address})
	}
	return out
}

func policyFor(app string) *networkingv1.NetworkPolicy {
	out := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: app}}
	out.Spec.PodSelector.MatchLabels = map[string]string{"app": app}
	return out
}

// fill gives an indexer like the engine's informer has, behind the wrapper.
func fill(t *testing.T, results string, pods ...*corev1.Pod) (*addresses, cache.Indexer) {
	t.Helper()
	inner := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{engineIndex: func(object any) ([]string, error) {
		var out []string
		for _, ip := range object.(*corev1.Pod).Status.PodIPs {
			out = append(out, ip.IP)
		}
		return out, nil
	}})
	for _, one := range pods {
		trimmed, err := trim(one)
		if err != nil {
			t.Fatal(err)
		}
		if err := inner.Add(trimmed); err != nil {
			t.Fatal(err)
		}
	}
	p := &addresses{sandboxes: &sandboxes{dir: results}, gone: map[string]*corev1.Pod{}}
	return p, podIndexer{inner, p}
}

// owner is the name of the pod that the engine would find, "" for none.
func owner(t *testing.T, indexer cache.Indexer, address string) string {
	t.Helper()
	found, err := indexer.ByIndex(engineIndex, address)
	if err != nil || len(found) > 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	if len(found) == 0 {
		return ""
	}
	return found[0].(*corev1.Pod).Name
}

// addResult writes what the CNI library keeps of one pod.
func addResult(t *testing.T, dir, name, address string) {
	t.Helper()
	text := fmt.Sprintf(`{"kind":"cniCacheV1","containerId":"c","config":"e30=","ifName":"eth0","networkName":"gateway",
		"cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","%s"]],
		"result":{"cniVersion":"1.0.0","ips":[{"address":"%s/24","gateway":"10.42.0.1"}]}}`, name, address)
	if err := os.WriteFile(filepath.Join(dir, "gateway-"+name+"-eth0"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestByIndexFindsThePodOfANewSandboxBeforeItsStatusHasAnAddress(t *testing.T) {
	results := t.TempDir()
	_, indexer := fill(t, results, pod("new", "x"))
	if got := owner(t, indexer, "10.42.0.5"); got != "" {
		t.Errorf("without a sandbox it found %q", got)
	}
	addResult(t, results, "new", "10.42.0.5")
	if got := owner(t, indexer, "10.42.0.5"); got != "new" {
		t.Errorf("found %q instead of new", got)
	}
}

func TestByIndexTakesTheSandboxOverAnOldStatus(t *testing.T) {
	results := t.TempDir()
	_, indexer := fill(t, results, pod("old", "x", "10.42.0.5"), pod("new", "x"))
	if got := owner(t, indexer, "10.42.0.5"); got != "old" {
		t.Errorf("by status it found %q instead of old", got)
	}
	addResult(t, results, "new", "10.42.0.5")
	if got := owner(t, indexer, "10.42.0.5"); got != "new" {
		t.Errorf("found %q instead of new", got)
	}
}

func TestByIndexRemembersADeletedPodUntilItsAddressHasAnotherOwner(t *testing.T) {
	results := t.TempDir()
	p, indexer := fill(t, results)
	p.remember(cache.DeletedFinalStateUnknown{Key: "a/killed", Obj: pod("killed", "x", "10.42.0.5")})
	addResult(t, results, "killed", "10.42.0.5")
	if got := owner(t, indexer, "10.42.0.5"); got != "killed" {
		t.Errorf("found %q instead of killed", got)
	}
	if err := os.Remove(filepath.Join(results, "gateway-killed-eth0")); err != nil {
		t.Fatal(err)
	}
	addResult(t, results, "unknown", "10.42.0.5")
	if got := owner(t, indexer, "10.42.0.5"); got != "" {
		t.Errorf("found %q for another pod's address", got)
	}
}

func TestOwnersTakesWholeFilesOfTheNetworkOnly(t *testing.T) {
	results := t.TempDir()
	addResult(t, results, "whole", "10.42.0.5")
	addResult(t, results, "loopback", "127.0.0.1")
	if err := os.WriteFile(filepath.Join(results, "gateway-cut-eth0"), []byte(`{"kind":"cni`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Owners(results); len(got) != 1 || got["10.42.0.5"] != "a/whole" {
		t.Errorf("got %v", got)
	}
}

func TestTrimKeepsWhatPoliciesLookAt(t *testing.T) {
	whole := pod("p", "x", "10.42.0.5")
	whole.Annotations = map[string]string{"big": "value"}
	whole.Spec.Containers = []corev1.Container{{
		Image: "i", Env: []corev1.EnvVar{{Name: "N"}}, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}},
	}, {Image: "no ports"}}
	whole.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 81}}}}
	object, err := trim(whole)
	if err != nil {
		t.Fatal(err)
	}
	got := object.(*corev1.Pod)
	if got.Name != "p" || got.Namespace != "a" || got.Labels["app"] != "x" || got.Status.PodIPs[0].IP != "10.42.0.5" {
		t.Errorf("lost something: %+v", got)
	}
	if len(got.Annotations) != 0 || len(got.Spec.Containers) != 2 || got.Spec.Containers[1].Image != "" {
		t.Errorf("kept too much: %+v", got)
	}
	if got.Spec.Containers[0].Ports[0].Name != "side" || got.Spec.Containers[1].Ports[0].Name != "web" {
		t.Errorf("ports: %+v", got.Spec.Containers)
	}
}

func TestTrimTakesAddressesThatAreNotThePodsOwn(t *testing.T) {
	host, done, failed := pod("h", "x", "192.168.127.2"), pod("d", "x", "10.42.0.5"), pod("f", "x", "10.42.0.6")
	host.Spec.HostNetwork = true
	done.Status.Phase, failed.Status.Phase = corev1.PodSucceeded, corev1.PodFailed
	for _, one := range []*corev1.Pod{host, done, failed} {
		object, err := trim(one)
		if got := object.(*corev1.Pod); err != nil || len(got.Status.PodIPs) != 0 {
			t.Errorf("%s kept %v, %v", one.Name, got.Status.PodIPs, err)
		}
	}
}

func TestRulesForOpensThePodsThatNoPolicySelects(t *testing.T) {
	pods := []*corev1.Pod{pod("free", "x", "10.42.0.5"), pod("bound", "y", "10.42.0.6"), pod("starting", "y")}
	owners := map[string]string{
		"10.42.0.5": "a/free", "10.42.0.6": "a/bound", "10.42.0.7": "a/starting", "10.42.0.8": "a/deleted", "fd00::1": "a/free",
	}
	elsewhere := policyFor("x")
	elsewhere.Namespace = "b"
	got := RulesFor("10.42.0.0/16", owners, pods, []*networkingv1.NetworkPolicy{policyFor("y"), elsewhere})
	if !slices.Equal(got.Open, []string{"10.42.0.5"}) || !slices.Equal(got.Pods, []string{"10.42.0.0/16"}) {
		t.Errorf("got %+v", got)
	}
	slices.Sort(got.Judged)
	if judged := slices.Compact(got.Judged); !slices.Equal(judged, []string{"10.42.0.6", "10.42.0.7"}) {
		t.Errorf("judged are %v", judged)
	}
}

func TestRulesForOpensNoAddressOfBeforeTheBoot(t *testing.T) {
	pods := []*corev1.Pod{pod("free", "x", "10.42.0.5"), pod("bound", "y", "10.42.0.6")}
	owners := map[string]string{"10.42.0.5": "a/bound"}
	got := RulesFor("10.42.0.0/16", owners, pods, []*networkingv1.NetworkPolicy{policyFor("y")})
	if len(got.Open) != 0 {
		t.Errorf("open are %v, and bound has its address from free", got.Open)
	}
}

func TestRulesForJudgesAPodOutsideOfTheNetwork(t *testing.T) {
	pods := []*corev1.Pod{pod("p", "y", "10.99.0.1")}
	got := RulesFor("10.42.0.0/16", nil, pods, []*networkingv1.NetworkPolicy{policyFor("y")})
	if !slices.Equal(got.Pods, []string{"10.42.0.0/16", "10.99.0.1"}) || len(got.Open) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestTextIsTheSameForTheSamePods(t *testing.T) {
	one := Rules{Pods: []string{"10.42.0.0/16"}, Open: []string{"10.42.0.6", "10.42.0.5", "10.42.0.5"}}.Text()
	other := Rules{Pods: []string{"10.42.0.0/16"}, Open: []string{"10.42.0.5", "10.42.0.6"}}.Text()
	if one != other || !strings.Contains(one, "elements = { 10.42.0.5, 10.42.0.6 };") {
		t.Errorf("one is\n%s\nthe other\n%s", one, other)
	}
	if self := (Rules{Judged: []string{"10.42.0.5"}}).Text(); !strings.Contains(self, "{ 10.42.0.5 . 10.42.0.5 };") {
		t.Errorf("with a judged pod:\n%s", self)
	}
	if closed := (Rules{Pods: []string{"10.42.0.0/16"}}).Text(); strings.Count(closed, "elements") != 1 {
		t.Errorf("without open pods:\n%s", closed)
	}
}

func TestTextKeepsPodsFromEachOthersLinkLocalAddresses(t *testing.T) {
	text := Rules{Pods: []string{"10.42.0.0/16"}}.Text()
	for chain, rule := range map[string]string{
		"forward": "ip6 saddr fe80::/10 drop", "input": `meta iifkind "bridge" ip6 saddr fe80::/10 drop`,
	} {
		_, rest, _ := strings.Cut(text, "chain "+chain+" {")
		if body, _, _ := strings.Cut(rest, "}"); !strings.Contains(body, "\n    "+rule+"\n") {
			t.Errorf("chain %s lacks %q:\n%s", chain, rule, body)
		}
	}
}
