package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

const (
	// home is where the controller mounts helm's folders.
	home = "/home/klipper-helm"
	// hashLabel on a release tells the controller which configuration it is of.
	hashLabel = "helmcharts.helm.cattle.io/configHash"
	// apiPlaceholder in a chart's address stands for the API server.
	apiPlaceholder = "%{KUBERNETES_API}%"
	clusterCA      = "var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
	// helmTimeout is helm's own default for one operation.
	helmTimeout = 5 * time.Minute
)

// job is what the controller's pod asks for.
type job struct {
	remove         bool
	name           string // the HelmChart's and the release's
	chartNamespace string // the HelmChart's
	namespace      string // the release's
	chart          string // a file, an address or a name in the repository
	repository     string
	version        string
	driver         string
	policy         string // what to do about a release that failed: abort, reinstall or retry
	serverSide     string // true, false or auto
	forceConflicts bool
	hash           string
	revision       string // the revision that the controller saw, empty when it does not say
	timeout        time.Duration
	createSpace    bool
	takeOwnership  bool
	valueFiles     []string // later ones win
	set            []string
	setString      []string
	caFile         string
	user, password string
	certFile       string
	keyFile        string
	passAll        bool
	insecure       bool
	plainHTTP      bool
}

// parse reads arguments, environment and the mounts below root.
func parse(argv []string, env func(string) string, root string) (*job, error) {
	if len(argv) == 0 || (argv[0] != "install" && argv[0] != "delete") {
		return nil, fmt.Errorf("the first argument must be install or delete, not %q", strings.Join(argv, " "))
	}
	if env("HELM_VERSION") == "v2" {
		return nil, fmt.Errorf("charts of helm 2 are not supported")
	}
	j := &job{
		remove: argv[0] == "delete", name: env("NAME"), chart: env("CHART"), chartNamespace: env("CHART_NAMESPACE"),
		namespace: env("TARGET_NAMESPACE"), repository: env("REPO"), driver: env("HELM_DRIVER"),
		policy: first(env("FAILURE_POLICY"), "reinstall"), serverSide: first(env("SERVER_SIDE"), "auto"),
		forceConflicts: env("FORCE_CONFLICTS") == "true", hash: env("CONFIG_HASH"),
		revision: env("EXPECTED_RELEASE_REVISION"), timeout: helmTimeout,
		passAll: env("AUTH_PASS_CREDENTIALS") == "true", insecure: env("INSECURE_SKIP_TLS_VERIFY") == "true",
		plainHTTP: env("PLAIN_HTTP") == "true",
	}
	if j.name == "" || j.namespace == "" {
		return nil, fmt.Errorf("NAME and TARGET_NAMESPACE must be set")
	}
	switch j.policy {
	case "abort", "reinstall", "retry":
	default:
		return nil, fmt.Errorf("unknown failure policy %q", j.policy)
	}
	if text := env("TIMEOUT"); text != "" {
		var err error
		if j.timeout, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("TIMEOUT: %w", err)
		}
	}
	if err := j.parseFlags(argv[1:]); err != nil || j.remove {
		return j, err
	}
	return j, j.readMounts(env, root)
}

// parseFlags knows those of helm's flags that the controller passes.
func (j *job) parseFlags(argv []string) error {
	flags := pflag.NewFlagSet("helmjob", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&j.namespace, "namespace", j.namespace, "")
	flags.BoolVar(&j.createSpace, "create-namespace", false, "")
	flags.BoolVar(&j.takeOwnership, "take-ownership", false, "")
	flags.StringVar(&j.version, "version", "", "")
	flags.StringArrayVar(&j.set, "set", nil, "")
	flags.StringArrayVar(&j.setString, "set-string", nil, "")
	if err := flags.Parse(argv); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

// readMounts finds values, credentials and authorities, and the chart when it came with the HelmChart.
func (j *job) readMounts(env func(string) string, root string) error {
	j.valueFiles, _ = filepath.Glob(filepath.Join(root, "config", "*.yaml"))
	auth := func(name string) string { return filepath.Join(root, "auth", name) }
	user, userErr := os.ReadFile(auth("username"))
	password, passwordErr := os.ReadFile(auth("password"))
	if userErr == nil && passwordErr == nil {
		j.user, j.password = string(user), string(password)
	} else if isFile(auth("tls.crt")) && isFile(auth("tls.key")) {
		j.certFile, j.keyFile = auth("tls.crt"), auth("tls.key")
	}
	authorities, _ := filepath.Glob(filepath.Join(root, "ca-files", "*"))
	authorities = append([]string{filepath.Join(root, "config", "ca-file.pem")}, authorities...)
	if strings.Contains(j.chart, apiPlaceholder) {
		j.chart = strings.ReplaceAll(j.chart, apiPlaceholder, apiAddress(env))
		authorities = append(authorities, filepath.Join(root, clusterCA))
	}
	if err := j.joinAuthorities(authorities, filepath.Join(root, "tmp", "ca-file.pem")); err != nil {
		return err
	}
	if j.repository != "" {
		// The controller writes NAME/CHART, for a repository that was added as NAME.
		j.chart = strings.TrimPrefix(j.chart, j.name+"/")
	}
	return j.decodeChart(root)
}

func (j *job) joinAuthorities(from []string, into string) error {
	var all bytes.Buffer
	for _, path := range from {
		if text, err := os.ReadFile(path); err == nil {
			all.Write(append(bytes.TrimSpace(text), '\n'))
		}
	}
	if all.Len() == 0 {
		return nil
	}
	j.caFile = into
	return os.WriteFile(into, all.Bytes(), 0o600)
}

// decodeChart unpacks spec.chartContent, which arrives in a ConfigMap.
func (j *job) decodeChart(root string) error {
	encoded, err := os.ReadFile(filepath.Join(root, "chart", j.name+".tgz.base64"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// People fold base64.
	content, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(encoded)), ""))
	if err != nil {
		return fmt.Errorf("spec.chartContent is not base64: %w", err)
	}
	// helm must not look for this file in a repository, nor for a version of it.
	j.chart, j.repository, j.version = filepath.Join(root, "tmp", j.name+".tgz"), "", ""
	return os.WriteFile(j.chart, content, 0o600)
}

func apiAddress(env func(string) string) string {
	host := env("KUBERNETES_SERVICE_HOST")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + env("KUBERNETES_SERVICE_PORT")
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
