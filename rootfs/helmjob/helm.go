package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"helm.sh/helm/v4/pkg/action"
	charts "helm.sh/helm/v4/pkg/chart"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/cli/values"
	"helm.sh/helm/v4/pkg/getter"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/registry"
	"helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
)

// errStale means that the release is not the one the controller saw: it will come back with a new job.
var errStale = errors.New("the release has changed since this job was made; doing nothing")

// helm does one job with helm's actions.
type helm struct {
	job      *job
	config   *action.Configuration
	settings *cli.EnvSettings
	out      io.Writer
}

// do brings the release to what the job asks for, whatever an earlier try left behind.
func (h *helm) do() error {
	last, err := h.last()
	if err != nil {
		return err
	}
	if last == nil {
		if h.job.remove {
			h.say("there is no release %s; nothing to remove", h.job.name)
			return nil
		}
		return h.install()
	}
	if h.job.revision != "" && h.job.revision != strconv.Itoa(last.Version) {
		return errStale
	}
	if h.job.remove {
		return h.uninstall()
	}
	status := last.Info.Status
	switch status {
	case common.StatusDeployed:
		return h.upgrade(last)
	case common.StatusPendingInstall, common.StatusPendingUpgrade, common.StatusPendingRollback,
		common.StatusSuperseded, common.StatusUninstalling:
		h.say("an earlier helm was interrupted while the release was %s", status)
		last.SetStatus(common.StatusFailed, "interrupted")
		if err := h.config.Releases.Update(last); err != nil {
			return err
		}
		// What was there before an upgrade may be fine; what comes of it is seen at the next try.
		if status == common.StatusPendingUpgrade || status == common.StatusSuperseded {
			return h.upgrade(last)
		}
	}
	return h.recover(last)
}

// recover is for a release that failed.
func (h *helm) recover(last *release.Release) error {
	switch h.job.policy {
	case "abort":
		return fmt.Errorf("release %s is %s (%s) and its failure policy is abort", h.job.name, last.Info.Status, last.Info.Description)
	case "retry":
		return h.upgrade(last)
	}
	if err := h.uninstall(); err != nil {
		return err
	}
	return h.install()
}

func (h *helm) last() (*release.Release, error) {
	found, err := h.config.Releases.Last(h.job.name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last, ok := found.(*release.Release)
	if !ok {
		return nil, fmt.Errorf("release %s is of a kind that this helm does not know", h.job.name)
	}
	return last, nil
}

func (h *helm) install() error {
	h.say("installing %s into namespace %s", h.job.name, h.job.namespace)
	client := action.NewInstall(h.config)
	client.ReleaseName, client.Namespace, client.CreateNamespace = h.job.name, h.job.namespace, h.job.createSpace
	client.TakeOwnership, client.Timeout, client.Labels = h.job.takeOwnership, h.job.timeout, h.labels()
	client.WaitStrategy = kube.HookOnlyStrategy
	client.ServerSideApply = h.job.serverSide != "false"
	client.ForceConflicts = h.job.forceConflicts && client.ServerSideApply
	chart, vals, err := h.load(&client.ChartPathOptions, client.SetRegistryClient)
	if err != nil {
		return err
	}
	made, err := client.Run(chart, vals)
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", h.job.name, err)
	}
	return h.show(made)
}

func (h *helm) upgrade(last *release.Release) error {
	h.say("upgrading %s in namespace %s", h.job.name, h.job.namespace)
	client := action.NewUpgrade(h.config)
	client.Namespace = h.job.namespace
	client.TakeOwnership, client.Timeout, client.Labels = h.job.takeOwnership, h.job.timeout, h.labels()
	client.WaitStrategy = kube.HookOnlyStrategy
	client.ServerSideApply = h.job.serverSide
	serverSide := h.job.serverSide == "true" ||
		h.job.serverSide == "auto" && last.ApplyMethod == string(release.ApplyMethodServerSideApply)
	client.ForceConflicts = h.job.forceConflicts && serverSide
	// helm keeps the ten last revisions, unless it is told otherwise.
	client.MaxHistory = h.settings.MaxHistory
	chart, vals, err := h.load(&client.ChartPathOptions, client.SetRegistryClient)
	if err != nil {
		return err
	}
	made, err := client.Run(h.job.name, chart, vals)
	if err != nil {
		return fmt.Errorf("cannot upgrade %s: %w", h.job.name, err)
	}
	return h.show(made)
}

func (h *helm) uninstall() error {
	h.say("removing %s from namespace %s", h.job.name, h.job.namespace)
	client := action.NewUninstall(h.config)
	client.Timeout, client.WaitStrategy = h.job.timeout, kube.StatusWatcherStrategy
	client.DeletionPropagation = "background"
	if _, err := client.Run(h.job.name); err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return fmt.Errorf("cannot remove %s: %w", h.job.name, err)
	}
	h.say("removed")
	return nil
}

// load reads chart and values, the chart from wherever it is.
func (h *helm) load(from *action.ChartPathOptions, set func(*registry.Client)) (charts.Charter, map[string]any, error) {
	j := h.job
	from.CaFile, from.CertFile, from.KeyFile = j.caFile, j.certFile, j.keyFile
	from.Username, from.Password, from.PassCredentialsAll = j.user, j.password, j.passAll
	from.InsecureSkipTLSVerify, from.PlainHTTP = j.insecure, j.plainHTTP
	from.RepoURL, from.Version = j.repository, j.version
	if registry.IsOCI(j.chart) {
		client, err := h.registry()
		if err != nil {
			return nil, nil, err
		}
		set(client)
	}
	path, err := from.LocateChart(j.chart, h.settings)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot get the chart %s: %w", j.chart, err)
	}
	chart, err := loader.Load(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the chart of %s: %w", j.name, err)
	}
	if err := installable(chart); err != nil {
		return nil, nil, err
	}
	options := values.Options{ValueFiles: j.valueFiles, Values: j.set, StringValues: j.setString}
	vals, err := options.MergeValues(getter.All(h.settings))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the values of %s: %w", j.name, err)
	}
	return chart, vals, nil
}

// installable refuses libraries and charts that lack a part.
func installable(chart charts.Charter) error {
	accessor, err := charts.NewAccessor(chart)
	if err != nil {
		return err
	}
	if kind, _ := accessor.MetadataAsMap()["Type"].(string); kind != "" && kind != "application" {
		return fmt.Errorf("a chart of type %s cannot be installed", kind)
	}
	if wanted := accessor.MetaDependencies(); len(wanted) > 0 {
		return action.CheckDependencies(chart, wanted)
	}
	return nil
}

// registry logs in with the docker configuration that the controller mounts, or with a name and a password.
func (h *helm) registry() (*registry.Client, error) {
	j := h.job
	options := []registry.ClientOption{
		registry.ClientOptWriter(h.out), registry.ClientOptBasicAuth(j.user, j.password),
		// Docker's own configuration below HOME, which the controller mounts, is what helm looks at next.
		registry.ClientOptCredentialsFile(h.settings.RegistryConfig),
	}
	if j.plainHTTP {
		return registry.NewClient(append(options, registry.ClientOptPlainHTTP())...)
	}
	security := &tls.Config{InsecureSkipVerify: j.insecure} // what spec.insecureSkipTLSVerify is for
	if j.caFile != "" {
		text, err := os.ReadFile(j.caFile)
		if err != nil {
			return nil, err
		}
		security.RootCAs = x509.NewCertPool()
		security.RootCAs.AppendCertsFromPEM(text)
	}
	if j.certFile != "" {
		pair, err := tls.LoadX509KeyPair(j.certFile, j.keyFile)
		if err != nil {
			return nil, err
		}
		security.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: security, Proxy: http.ProxyFromEnvironment}
	return registry.NewClient(append(options, registry.ClientOptHTTPClient(&http.Client{Transport: transport}))...)
}

// labels mark the release with the configuration it is of; without it the controller would ask again for ever.
func (h *helm) labels() map[string]string {
	if h.job.hash == "" {
		return nil
	}
	return map[string]string{hashLabel: h.job.hash}
}

func (h *helm) show(made any) error {
	if made, ok := made.(*release.Release); ok && made != nil {
		h.say("%s is %s at revision %d", made.Name, made.Info.Status, made.Version)
		if made.Info.Notes != "" {
			h.say("%s", made.Info.Notes)
		}
	}
	return nil
}

func (h *helm) say(format string, args ...any) {
	fmt.Fprintf(h.out, format+"\n", args...)
}
