package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// environment is what the controller's pod gives for a chart that came with the HelmChart.
func environment(changes map[string]string) func(string) string {
	values := map[string]string{
		"NAME": "web", "VERSION": "", "REPO": "", "HELM_DRIVER": "secret", "CHART_NAMESPACE": "kube-system", "CHART": "",
		"HELM_VERSION": "", "TARGET_NAMESPACE": "apps", "AUTH_PASS_CREDENTIALS": "false",
		"INSECURE_SKIP_TLS_VERIFY": "false", "PLAIN_HTTP": "false", "FAILURE_POLICY": "reinstall", "SERVER_SIDE": "auto",
		"FORCE_CONFLICTS": "false", "EXPECTED_RELEASE_REVISION": "0", "CONFIG_HASH": "ABC123",
		"KUBERNETES_SERVICE_HOST": "10.43.0.1", "KUBERNETES_SERVICE_PORT": "443",
	}
	for name, value := range changes {
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

// mounts makes the pod's file system below a folder of the test.
func mounts(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files["tmp/.keep"] = ""
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// archive packs a chart like `helm package` does and folds its base64 like people do.
func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	var packed bytes.Buffer
	compressed := gzip.NewWriter(&packed)
	writer := tar.NewWriter(compressed)
	for path, text := range files {
		header := &tar.Header{Name: "web/" + path, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(packed.Bytes())
	return text[:40] + "\n" + text[40:] + "\n"
}

func TestParseReadsWhatTheControllerPasses(t *testing.T) {
	root := mounts(t, map[string]string{
		"config/values-0-000-HelmChart-ValuesContent.yaml": "a: 1\n",
		"config/values-1-000-HelmChartConfig.yaml":         "a: 2\n",
		"config/ca-file.pem":                               "ONE",
		"ca-files/more.pem":                                "TWO",
		"auth/username":                                    "me",
		"auth/password":                                    "secret",
		"chart/web.tgz.base64":                             archive(t, map[string]string{"Chart.yaml": "name: web"}),
	})
	argv := []string{
		"install", "--namespace", "apps", "--create-namespace", "--version", "1.2.3", "--set", "replicas=2",
		"--set-string", `list=a\,b`, "--take-ownership",
	}
	j, err := parse(argv, environment(map[string]string{"TIMEOUT": "90s", "FORCE_CONFLICTS": "true"}), root)
	if err != nil {
		t.Fatal(err)
	}
	if j.remove || j.namespace != "apps" || !j.createSpace || !j.takeOwnership || !j.forceConflicts {
		t.Errorf("got %+v", j)
	}
	if j.timeout != 90*time.Second || j.hash != "ABC123" || j.revision != "0" || j.user != "me" || j.password != "secret" {
		t.Errorf("got %+v", j)
	}
	if len(j.valueFiles) != 2 || !strings.Contains(j.valueFiles[1], "HelmChartConfig") || j.set[0] != "replicas=2" {
		t.Errorf("values: %q %q", j.valueFiles, j.set)
	}
	if text, _ := os.ReadFile(j.caFile); string(text) != "ONE\nTWO\n" {
		t.Errorf("authorities: %q", text)
	}
	content, err := os.ReadFile(j.chart)
	if err != nil || !bytes.HasPrefix(content, []byte{0x1f, 0x8b}) || j.version != "" {
		t.Errorf("chart %s: %v, version %q", j.chart, err, j.version)
	}
}

func TestParseTakesTheRepositorysNameFromTheChart(t *testing.T) {
	j, err := parse([]string{"install"}, environment(map[string]string{"REPO": "https://charts.test", "CHART": "web/nginx"}), mounts(t, map[string]string{}))
	if err != nil || j.chart != "nginx" || j.repository != "https://charts.test" {
		t.Errorf("got %+v, %v", j, err)
	}
}

func TestParseTrustsTheClusterOnlyForChartsOfTheAPIServer(t *testing.T) {
	files := map[string]string{clusterCA: "CLUSTER"}
	j, err := parse([]string{"install"}, environment(map[string]string{"CHART": "https://" + apiPlaceholder + "/static/a.tgz"}), mounts(t, files))
	if err != nil || j.chart != "https://10.43.0.1:443/static/a.tgz" {
		t.Fatalf("got %+v, %v", j, err)
	}
	if text, _ := os.ReadFile(j.caFile); string(text) != "CLUSTER\n" {
		t.Errorf("authorities: %q", text)
	}
	j, err = parse([]string{"install"}, environment(map[string]string{"CHART": "https://other.test/a.tgz"}), mounts(t, files))
	if err != nil || j.caFile != "" {
		t.Errorf("got %+v, %v", j, err)
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	for want, given := range map[string]struct {
		argv    []string
		changes map[string]string
		files   map[string]string
	}{
		"first argument":   {argv: []string{"upgrade"}},
		"--atomic":         {argv: []string{"install", "--atomic"}},
		`"extra"`:          {argv: []string{"install", "extra"}},
		"failure policy":   {argv: []string{"install"}, changes: map[string]string{"FAILURE_POLICY": "hope"}},
		"helm 2":           {argv: []string{"install"}, changes: map[string]string{"HELM_VERSION": "v2"}},
		"TIMEOUT":          {argv: []string{"install"}, changes: map[string]string{"TIMEOUT": "soon"}},
		"TARGET_NAMESPACE": {argv: []string{"delete"}, changes: map[string]string{"TARGET_NAMESPACE": ""}},
		"not base64":       {argv: []string{"install"}, files: map[string]string{"chart/web.tgz.base64": "%%%"}},
	} {
		if given.files == nil {
			given.files = map[string]string{}
		}
		_, err := parse(given.argv, environment(given.changes), mounts(t, given.files))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
