package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/cli"
	kubefake "helm.sh/helm/v4/pkg/kube/fake"
	status "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
)

var goodChart = map[string]string{
	"Chart.yaml":  "apiVersion: v2\nname: web\nversion: 0.1.0\n",
	"values.yaml": "colour: red\n",
	"templates/map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n" +
		"data:\n  colour: {{ .Values.colour }}\n",
	"templates/NOTES.txt": "It is {{ .Values.colour }}.\n",
}

// cluster is helm's own memory storage and a client that accepts everything.
type cluster struct {
	t      *testing.T
	config *action.Configuration
	out    bytes.Buffer
}

func newCluster(t *testing.T) *cluster {
	memory := driver.NewMemory()
	memory.SetNamespace("apps")
	config := action.NewConfiguration()
	config.Releases = storage.Init(memory)
	config.KubeClient = &kubefake.PrintingKubeClient{Out: io.Discard}
	config.Capabilities = common.DefaultCapabilities
	return &cluster{t: t, config: config}
}

// run does what a pod with these arguments and mounts would do.
func (c *cluster) run(argv string, changes map[string]string, chart map[string]string, values string) error {
	c.t.Helper()
	files := map[string]string{"config/values-0-000-HelmChart-ValuesContent.yaml": values}
	if chart != nil {
		files["chart/web.tgz.base64"] = archive(c.t, chart)
	}
	j, err := parse(strings.Fields(argv), environment(changes), mounts(c.t, files))
	if err != nil {
		c.t.Fatal(err)
	}
	settings := cli.New()
	settings.SetNamespace(j.namespace)
	return (&helm{job: j, config: c.config, settings: settings, out: &c.out}).do()
}

func (c *cluster) last() *release.Release {
	c.t.Helper()
	last, err := (&helm{job: &job{name: "web"}, config: c.config}).last()
	if err != nil {
		c.t.Fatal(err)
	}
	return last
}

// leave sets the state that an earlier helm left behind.
func (c *cluster) leave(state status.Status) {
	c.t.Helper()
	last := c.last()
	last.SetStatus(state, "left by the test")
	if err := c.config.Releases.Update(last); err != nil {
		c.t.Fatal(err)
	}
}

func revision(text string) map[string]string {
	return map[string]string{"EXPECTED_RELEASE_REVISION": text}
}

func TestInstallUpgradeAndRemove(t *testing.T) {
	c := newCluster(t)
	if err := c.run("install --namespace apps", revision("0"), goodChart, ""); err != nil {
		t.Fatal(err)
	}
	made := c.last()
	if made.Version != 1 || made.Info.Status != status.StatusDeployed || made.Labels[hashLabel] != "ABC123" {
		t.Errorf("installed: %d %s %v", made.Version, made.Info.Status, made.Labels)
	}
	if !strings.Contains(c.out.String(), "It is red.") {
		t.Errorf("no notes in the log: %s", c.out.String())
	}
	changed := revision("1")
	changed["CONFIG_HASH"] = "DEF456"
	if err := c.run("install --namespace apps", changed, goodChart, "colour: blue\n"); err != nil {
		t.Fatal(err)
	}
	made = c.last()
	if made.Version != 2 || !strings.Contains(made.Manifest, "colour: blue") || made.Labels[hashLabel] != "DEF456" {
		t.Errorf("upgraded: %d %v\n%s", made.Version, made.Labels, made.Manifest)
	}
	if err := c.run("delete", revision("2"), nil, ""); err != nil {
		t.Fatal(err)
	}
	if last := c.last(); last != nil {
		t.Errorf("removed, but revision %d is left", last.Version)
	}
	if err := c.run("delete", revision("2"), nil, ""); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}

func TestAReleaseThatChangedSinceIsLeftAlone(t *testing.T) {
	c := newCluster(t)
	if err := c.run("install", revision("0"), goodChart, ""); err != nil {
		t.Fatal(err)
	}
	for _, argv := range []string{"install", "delete"} {
		if err := c.run(argv, revision("7"), goodChart, ""); !errors.Is(err, errStale) {
			t.Errorf("%s: got %v", argv, err)
		}
	}
	if last := c.last(); last == nil || last.Version != 1 {
		t.Errorf("the release was touched: %+v", last)
	}
}

func TestAChartThatDoesNotRenderFailsWithHelmsWords(t *testing.T) {
	broken := map[string]string{"templates/map.yaml": `{{ required "a colour is needed" .Values.missing }}`}
	for name, text := range goodChart {
		if _, ok := broken[name]; !ok {
			broken[name] = text
		}
	}
	c := newCluster(t)
	err := c.run("install", revision("0"), broken, "")
	if err == nil || !strings.Contains(err.Error(), "web/templates/map.yaml:1") || !strings.Contains(err.Error(), "a colour is needed") {
		t.Fatalf("install: got %v", err)
	}
	// A good release stays what it is when its successor does not render.
	if err := c.run("install", revision("0"), goodChart, ""); err != nil {
		t.Fatal(err)
	}
	if err := c.run("install", revision("1"), broken, ""); err == nil || !strings.Contains(err.Error(), "cannot upgrade web") {
		t.Fatalf("upgrade: got %v", err)
	}
	if last := c.last(); last.Version != 1 || last.Info.Status != status.StatusDeployed {
		t.Errorf("after a bad upgrade: %d %s", last.Version, last.Info.Status)
	}
}

func TestAFailedReleaseIsTreatedByItsPolicy(t *testing.T) {
	for policy, version := range map[string]int{"reinstall": 1, "retry": 2} {
		c := newCluster(t)
		if err := c.run("install", nil, goodChart, ""); err != nil {
			t.Fatal(err)
		}
		c.leave(status.StatusFailed)
		if err := c.run("install", map[string]string{"FAILURE_POLICY": policy, "EXPECTED_RELEASE_REVISION": "1"}, goodChart, ""); err != nil {
			t.Fatalf("%s: %v", policy, err)
		}
		if last := c.last(); last.Version != version || last.Info.Status != status.StatusDeployed {
			t.Errorf("%s: revision %d is %s", policy, last.Version, last.Info.Status)
		}
	}
	c := newCluster(t)
	if err := c.run("install", nil, goodChart, ""); err != nil {
		t.Fatal(err)
	}
	c.leave(status.StatusFailed)
	err := c.run("install", map[string]string{"FAILURE_POLICY": "abort", "EXPECTED_RELEASE_REVISION": "1"}, goodChart, "")
	if err == nil || !strings.Contains(err.Error(), "left by the test") {
		t.Errorf("abort: got %v", err)
	}
}

func TestAnInterruptedHelmIsFinished(t *testing.T) {
	for left, version := range map[status.Status]int{
		status.StatusPendingInstall: 1, status.StatusPendingUpgrade: 2, status.StatusUninstalling: 1,
	} {
		c := newCluster(t)
		if err := c.run("install", nil, goodChart, ""); err != nil {
			t.Fatal(err)
		}
		c.leave(left)
		if err := c.run("install", revision("1"), goodChart, ""); err != nil {
			t.Fatalf("%s: %v", left, err)
		}
		if last := c.last(); last.Version != version || last.Info.Status != status.StatusDeployed {
			t.Errorf("%s: revision %d is %s", left, last.Version, last.Info.Status)
		}
	}
}

func TestLibrariesAndMissingPartsAreRefused(t *testing.T) {
	library := map[string]string{"Chart.yaml": goodChart["Chart.yaml"] + "type: library\n"}
	lacking := map[string]string{
		"Chart.yaml": goodChart["Chart.yaml"] + "dependencies:\n- name: part\n  version: 1.0.0\n  repository: https://charts.test\n",
	}
	for want, chart := range map[string]map[string]string{"library": library, "part": lacking} {
		c := newCluster(t)
		if err := c.run("install", nil, chart, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestMain(m *testing.M) {
	// helm must not write into the folders of whoever runs this.
	home, err := os.MkdirTemp("", "helmjob")
	if err != nil {
		panic(err)
	}
	os.Setenv("HOME", home)
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}
