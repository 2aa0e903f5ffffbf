package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/cmd/ctr/app"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	"gateway.local/kubenode/internal/layout"
)

// runKubectl runs kubectl; without a kubeconfig of the caller's it takes the cluster's own.
func runKubectl(argv []string) int {
	if os.Getenv("KUBECONFIG") == "" {
		if _, err := os.Stat(layout.Kubeconfig); err == nil {
			os.Setenv("KUBECONFIG", layout.Kubeconfig)
		}
	}
	os.Args = append([]string{"kubectl"}, argv...)
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
	return 0
}

// runCtr runs containerd's client against the cluster's socket and namespace.
func runCtr(argv []string) int {
	for name, value := range map[string]string{"CONTAINERD_ADDRESS": layout.ContainerdSocket, "CONTAINERD_NAMESPACE": "k8s.io"} {
		if os.Getenv(name) == "" {
			os.Setenv(name, value)
		}
	}
	if err := app.New().Run(context.Background(), append([]string{"ctr"}, argv...)); err != nil {
		fmt.Fprintln(os.Stderr, "ctr:", err)
		return 1
	}
	return 0
}
