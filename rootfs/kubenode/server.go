package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	apicompatibility "k8s.io/apiserver/pkg/util/compatibility"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	"k8s.io/klog/v2"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/heap"
	"gateway.local/kubenode/internal/layout"
)

// stopBudget bounds a stop: API server and containerd share it.
const stopBudget = 8 * time.Second

var started = time.Now()

// stopping silences the complaints of parts that lose each other while everything ends.
var stopping atomic.Bool

// logf writes one line of kubenode's own, with the seconds since the start.
func logf(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "kubenode %7.2fs %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, values...))
}

// part is what a component's prepare function gives: it runs the component until its context ends.
type part = func(context.Context) error

// cluster holds what is started, in the order in which it must stop.
type cluster struct {
	layout     layout.Layout
	settings   *args.Server
	api        context.Context
	stopAPI    context.CancelFunc
	apiDone    chan struct{}
	parts      context.Context
	stopParts  context.CancelFunc
	containers *containerd
	stopCRI    context.CancelFunc
	kine       *kineStore
	failed     chan error
	renew      chan struct{}
	probe      *apiProbe
	allPods    chan struct{} // closed when kubelet has been given all pods there were at the start
	lockFile   *os.File
}

// runServer starts everything, waits for a signal or the first part to fail, and stops in reverse.
func runServer(s *args.Server) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	// The guest's thaw sends it when registries.yaml, proxy or authorities changed.
	rereads := make(chan os.Signal, 1)
	signal.Notify(rereads, syscall.SIGHUP)
	setUpLogging(s)
	heap.Relax(2 * time.Minute)
	c := &cluster{layout: layout.Layout{Root: s.DataDir}, settings: s, failed: make(chan error, 16), apiDone: make(chan struct{}), renew: make(chan struct{}, 1), allPods: make(chan struct{})}
	c.api, c.stopAPI = context.WithCancel(context.Background())
	c.parts, c.stopParts = context.WithCancel(context.Background())
	begun := make(chan error, 1)
	go func() { begun <- c.start() }()
	var failure error
	var again atomic.Bool
	for running := true; running; {
		select {
		case err := <-begun:
			failure, running = err, err == nil
			begun = nil
		case failure = <-c.failed:
			// Said at once: a part that is stopped before it was up can end the process.
			logf("stopping: %v", failure)
			running = false
		case <-c.renew:
			logf("certificates have to be made anew: starting again")
			again.Store(true)
			running = false
		case got := <-signals:
			logf("stopping on %s", got)
			running = false
		case <-rereads:
			if begun == nil { // else start() reads them, or has failed
				c.containers.reread()
			}
		}
	}
	go func() {
		if got := <-signals; again.Swap(false) {
			logf("stopping on %s", got)
			<-signals
		}
		logf("second signal: ending at once")
		os.Exit(130)
	}()
	c.stop()
	if again.Load() {
		return startAgain()
	}
	return failure
}

// setUpLogging keeps errors; what the parts say besides is for --debug, since every line costs
// time on an emulated console.
func setUpLogging(s *args.Server) {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	verbosity := s.Verbosity
	if s.Debug {
		verbosity = max(verbosity, 2)
	}
	_ = flags.Set("v", strconv.Itoa(verbosity))
	if verbosity > 0 {
		return
	}
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	// A line of one severity also goes to every lower one, so each severity but one is dropped.
	for _, severity := range []string{"INFO", "WARNING", "FATAL"} {
		klog.SetOutputBySeverity(severity, io.Discard)
	}
	klog.SetOutputBySeverity("ERROR", untilStopping{os.Stderr})
}

// untilStopping drops what is written once the stop has begun.
type untilStopping struct{ io.Writer }

func (w untilStopping) Write(p []byte) (int, error) {
	if stopping.Load() {
		return len(p), nil
	}
	return w.Writer.Write(p)
}

func (c *cluster) start() error {
	if err := c.prepare(); err != nil {
		return err
	}
	run, err := c.prepareParts()
	if err != nil {
		return err
	}
	var ctx context.Context
	ctx, c.stopCRI = context.WithCancel(context.Background())
	if err := c.closePods(); err != nil {
		return err
	}
	if c.containers, err = startContainerd(ctx, c.layout, c.settings); err != nil {
		return err
	}
	if c.kine, err = startKine(c.layout); err != nil {
		return err
	}
	go func() {
		defer close(c.apiDone)
		c.watch("kube-apiserver", c.api, run["kube-apiserver"])
	}()
	images := make(chan error, 1)
	go func() { images <- importImages(c.parts, c.layout, c.settings.Snapshotter) }()
	resuming := havePods()
	c.startNode(run, resuming)
	if err := c.probe.wait(c.parts, "/readyz", false); err != nil {
		return nil
	}
	logf("API server is ready")
	go c.noteDefaults(c.parts)
	// The controllers give up when the API server is not healthy within ten seconds, so they come after it.
	c.launch("kube-controller-manager", run)
	// Before, it is refused what it lists, as authorization is not ready either, and tries again a second later.
	if !c.settings.DisableKubeProxy {
		c.launch("kube-proxy", run)
	}
	if !c.settings.DisablePolicy {
		c.launch(netpolName, run)
	}
	if resuming {
		go c.resumeNode(run)
	}
	// A new cluster's pods come from the manifests, so these wait for the images; kubelet need not.
	if err := <-images; err != nil && c.parts.Err() == nil {
		return fmt.Errorf("cannot import images: %w", err)
	}
	deploy, err := newDeployer(c.layout, c.settings)
	if err != nil {
		return err
	}
	if resuming {
		deploy.after = c.allPods
	}
	go c.watch("deploy", c.parts, deploy.run)
	if !c.settings.DisableHelm {
		go c.watch(helmName, c.parts, func(ctx context.Context) error { return c.runHelm(ctx, deploy.kinds.served) })
	}
	return nil
}

// prepareParts reads every part's flags, so that a wrong one ends the start before anything runs.
func (c *cluster) prepareParts() (map[string]part, error) {
	run := map[string]part{}
	for name, prepare := range map[string]func(layout.Layout, *args.Server) (part, error){
		"kube-apiserver": c.prepareAPIServer, "kube-controller-manager": prepareControllers,
		"kube-scheduler": prepareScheduler, "kubelet": c.prepareKubelet, "kube-proxy": prepareProxy,
		netpolName: prepareNetworkPolicies,
	} {
		prepared, err := prepare(c.layout, c.settings)
		if err != nil {
			return nil, err
		}
		run[name] = prepared
	}
	// The feature gates are global: they are set once, after every part has named its flags and before any runs.
	return run, apicompatibility.DefaultComponentGlobalsRegistry.Set()
}

// prepare makes directories, certificates and kubeconfigs.
func (c *cluster) prepare() error {
	if c.settings.NodeIP == "" {
		ip, err := defaultAddress()
		if err != nil {
			return err
		}
		c.settings.NodeIP = ip
	}
	for path, mode := range c.layout.Directories() {
		if err := os.MkdirAll(path, os.FileMode(mode)); err != nil {
			return fmt.Errorf("cannot make the data directory: %w", err)
		}
	}
	if err := c.lock(); err != nil {
		return err
	}
	if err := serveSettle(); err != nil {
		return err
	}
	if err := ensurePKI(c.layout, c.settings); err != nil {
		return fmt.Errorf("cannot make the certificates: %w", err)
	}
	if err := ensureToken(c.layout, c.settings); err != nil {
		return fmt.Errorf("cannot write the token: %w", err)
	}
	if err := writeKubeconfigs(c.layout, c.settings); err != nil {
		return err
	}
	go c.keepCertificates()
	var err error
	c.probe, err = newAPIProbe(c.layout, c.settings)
	logf("certificates and kubeconfigs are there")
	return err
}

// lock keeps a second server away from this data directory; the kernel releases it with the process.
func (c *cluster) lock() error {
	file, err := os.OpenFile(c.layout.Server("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another k3s server uses the data directory %s", c.layout.Root)
	}
	c.lockFile = file // kept open until the process ends
	return nil
}

// defaultAddress is the address that the default route would use; no packet is sent.
func defaultAddress() (string, error) {
	connection, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return "", fmt.Errorf("cannot find this node's address, pass --node-ip: %w", err)
	}
	defer connection.Close()
	host, _, err := net.SplitHostPort(connection.LocalAddr().String())
	return host, err
}

func (c *cluster) launch(name string, run map[string]part) {
	go c.watch(name, c.parts, run[name])
}

// watch runs a part and reports it when it ends before it should.
func (c *cluster) watch(name string, ctx context.Context, run part) {
	err := run(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	c.failed <- fmt.Errorf("%s failed: %w", name, err)
}

// stop ends the parts, then the API server, then the database, then containerd; containers keep running for
// whoever powers the machine off.
func (c *cluster) stop() {
	stopping.Store(true)
	deadline := time.Now().Add(stopBudget)
	c.stopParts()
	c.stopAPI()
	if c.kine != nil {
		// What the API server has acknowledged is in the database already; its own drain waits for clients that
		// are ending too, up to a minute, so it gets a moment only.
		waitBounded(time.Second, func() { <-c.apiDone })
		c.kine.stop()
	}
	if c.stopCRI != nil {
		c.stopCRI()
		if c.containers != nil {
			waitBounded(time.Until(deadline), func() { <-c.containers.stopped })
		}
	}
	logf("stopped")
}

// waitBounded runs wait but gives up after limit.
func waitBounded(limit time.Duration, wait func()) {
	done := make(chan struct{})
	go func() { wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// pause waits, or gives the context's error when that ends first.
func pause(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(duration):
		return nil
	}
}
