// Command helmjob is the program of the image gateway.local/helm: it installs, upgrades or removes one chart the way
// k3s's helm controller asks for it, with helm's own library. It keeps the contract of the controller's usual image
// (klipper-helm): environment, arguments and mounts. It must not decide when to run; that is the controller's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificates of its own

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/cli"
)

// terminationLog is what kubelet shows as the container's message, at most 4096 bytes.
const terminationLog = "/dev/termination-log"

// reportBudget bounds telling the cluster how it went.
const reportBudget = 15 * time.Second

func main() {
	// A helm that is interrupted leaves its release pending; kubelet kills what takes too long.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	// helm keeps caches below these; the controller mounts a memory file system at each.
	if os.Getenv("HOME") == "" || os.Getenv("HOME") == "/" {
		os.Setenv("HOME", home)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	wanted, err := parse(os.Args[1:], os.Getenv, "/")
	if err != nil {
		fmt.Fprintln(os.Stderr, "helmjob:", err)
		os.Exit(2)
	}
	os.Exit(finish(wanted, run(wanted, os.Stdout)))
}

// run connects to the cluster and does the job.
func run(wanted *job, out io.Writer) error {
	settings := cli.New()
	settings.SetNamespace(wanted.namespace)
	config := action.NewConfiguration(action.ConfigurationSetLogger(slog.Default().Handler()))
	if err := config.Init(settings.RESTClientGetter(), wanted.namespace, wanted.driver); err != nil {
		return err
	}
	return (&helm{job: wanted, config: config, settings: settings, out: out}).do()
}

// finish tells kubelet and the HelmChart how it went and gives the exit code.
func finish(wanted *job, failure error) int {
	if failure == nil || errors.Is(failure, errStale) {
		if failure != nil {
			note(failure.Error())
			fmt.Println(failure)
			return 0
		}
		note("done")
	} else {
		note(failure.Error())
		fmt.Fprintln(os.Stderr, "Error:", failure)
	}
	ctx, cancel := context.WithTimeout(context.Background(), reportBudget)
	defer cancel()
	if err := report(ctx, wanted, failure); err != nil {
		fmt.Fprintln(os.Stderr, "helmjob: cannot note the outcome on the HelmChart:", err)
	}
	if failure != nil {
		return 1
	}
	return 0
}

// note leaves the container's message; without kubelet there is no such file, and nobody to read it.
func note(text string) {
	_ = os.WriteFile(terminationLog, []byte(shorten(text)+"\n"), 0o644)
}
