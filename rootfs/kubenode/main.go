// Command k3s is kubenode: a whole one-node Kubernetes cluster in one program, built from the
// unmodified upstream modules of Kubernetes, kine and containerd. It keeps the part of k3s's
// contract that gateway uses; README.md says which.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/pflag"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/versions"
)

const help = `k3s (kubenode ` + versions.Kubenode + `): one-node Kubernetes in one program

Usage:
  k3s server [FLAGS]      run the cluster; k3s server --help lists the flags
  k3s kubectl ARGS...     kubectl with the administrator's kubeconfig
  k3s ctr ARGS...         containerd's client for the cluster's containers
  k3s image ARGS...       load image archives, list blobs
  k3s settle              get the server's memory ready for clones of this machine
  k3s --version           versions of the parts

Example: k3s kubectl get pods -A
`

func main() {
	os.Exit(dispatch(os.Args))
}

// dispatch picks the tool by the name it was called with (links kubectl, ctr, crictl) or by the first argument.
func dispatch(argv []string) int {
	tool, rest := filepath.Base(argv[0]), argv[1:]
	switch tool {
	case "kubectl", "ctr", "crictl", "containerd":
	default:
		if len(rest) == 0 {
			fmt.Fprint(os.Stderr, help)
			return 2
		}
		tool, rest = rest[0], rest[1:]
	}
	switch tool {
	case "server":
		return serverCommand(rest)
	case "containerd":
		return runContainerd(rest)
	case "kubectl":
		return runKubectl(rest)
	case "ctr":
		return runCtr(rest)
	case "image":
		return runImage(rest)
	case "settle":
		return runSettle()
	case "crictl":
		fmt.Fprintln(os.Stderr, "crictl: cannot run: it is not part of kubenode; use `kubectl` for pods and logs, `ctr images list` for images, `ctr containers list` for containers")
		return 1
	case "--version", "-v", "version":
		fmt.Printf("k3s version %s (kubenode)\nkubernetes %s, containerd %s, kine %s, %s\n", versions.Kubenode, versions.Kubernetes, versions.Containerd, versions.Kine, runtime.Version())
		return 0
	case "--help", "-h", "help":
		fmt.Print(help)
		return 0
	}
	fmt.Fprintf(os.Stderr, "k3s: unknown command %q (see `k3s --help`)\n", tool)
	return 2
}

func serverCommand(argv []string) int {
	settings, err := args.ParseServer(argv)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Print(args.Usage())
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "k3s: %v\n", err)
		return 2
	}
	if err := runServer(settings); err != nil {
		fmt.Fprintf(os.Stderr, "k3s: %v\n", err)
		return 1
	}
	return 0
}
