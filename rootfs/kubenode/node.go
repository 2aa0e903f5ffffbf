package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	"gateway.local/kubenode/internal/layout"
)

const (
	// proxyBudget bounds how long pods of before wait for kube-proxy's first rules. Emulated it takes some four seconds.
	proxyBudget = time.Minute
	// rulesBudget bounds how long the rules are looked for before a connection is tried.
	rulesBudget = 20 * time.Second
	rulesPoll   = 50 * time.Millisecond
)

// startNode starts what can do with an API server that listens but is not ready yet. That holds for kubelet only where
// it has no pods of a run before: it registers the node meanwhile, and what it will run comes through the API server.
func (c *cluster) startNode(run map[string]part, resuming bool) {
	if err := c.probe.wait(c.parts, "/livez/ping", true); err != nil {
		return
	}
	logf("API server listens")
	c.launch("kube-scheduler", run)
	if !resuming {
		c.startKubelet(run)
	}
}

// resumeNode starts kubelet for the pods of a run before, once they find the API server by its service. Many programs
// end when they cannot ask it something right after their start, and would be restarted only after a pause.
func (c *cluster) resumeNode(run map[string]part) {
	if !c.settings.DisableKubeProxy {
		ctx, cancel := context.WithTimeout(c.parts, proxyBudget)
		defer cancel()
		if err := c.awaitAPIService(ctx); err != nil && c.parts.Err() == nil {
			logf("pods start without their way to the API server: %v", err)
		}
	}
	c.startKubelet(run)
}

func (c *cluster) startKubelet(run map[string]part) {
	client, err := connectContainerd(c.parts)
	if err != nil {
		return
	}
	client.Close()
	c.launch("kubelet", run)
}

// awaitAPIService returns once the service "kubernetes" takes connections, as it does for pods.
func (c *cluster) awaitAPIService(ctx context.Context) error {
	ip, err := c.settings.ServiceAddress(1)
	if err != nil {
		return err
	}
	// Rules that are not found in this time are of a kind that forwards does not know after all.
	askUntil := time.Now().Add(rulesBudget)
	ask := showsRules(c.settings.ProxyArgs, ip)
	dialer := net.Dialer{Timeout: time.Second}
	for {
		if !ask || forwards(ip) || time.Now().After(askUntil) {
			connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), "443"))
			if err == nil {
				return connection.Close()
			}
			if ctx.Err() != nil {
				return err
			}
		}
		if err := pause(ctx, rulesPoll); err != nil {
			return err
		}
	}
}

// havePods says whether kubelet ran pods here that were not taken away.
func havePods() bool {
	entries, err := os.ReadDir(filepath.Join(layout.KubeletDir, "pods"))
	return err == nil && len(entries) > 0
}
