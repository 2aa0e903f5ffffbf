package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins" // containerd's plugins
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	"golang.org/x/sys/unix"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/childenv"
	"gateway.local/kubenode/internal/crconfig"
	"gateway.local/kubenode/internal/layout"
	"gateway.local/kubenode/internal/pki"
	"gateway.local/kubenode/internal/registries"
)

// runContainerd is the child's main: this program under the name containerd.
func runContainerd(argv []string) int {
	if err := command.App().Run(context.Background(), append([]string{"containerd"}, argv...)); err != nil {
		fmt.Fprintln(os.Stderr, "containerd:", err)
		return 1
	}
	return 0
}

// containerd is the child process; it is a process of its own because it must outlive nothing but
// also because containers' shims talk to it by its socket alone.
type containerd struct {
	config  string
	logPath string
	stopped chan struct{}

	mu      sync.Mutex
	write   func() error // makes the configuration anew
	process *os.Process  // the one that runs, or nil
	started string       // what it has read at its start, as inputs() gives it
}

// startContainerd writes the configuration and keeps the child running until ctx ends.
func startContainerd(ctx context.Context, l layout.Layout, s *args.Server) (*containerd, error) {
	c := &containerd{
		config:  l.Agent("etc", "containerd", "config.toml"),
		logPath: l.Agent("containerd", "containerd.log"),
		stopped: make(chan struct{}),
	}
	c.write = func() error { return writeContainerdConfig(c.config, l, s) }
	if err := c.write(); err != nil {
		return nil, fmt.Errorf("cannot configure containerd: %w", err)
	}
	go c.keepRunning(ctx)
	return c, nil
}

func writeContainerdConfig(path string, l layout.Layout, s *args.Server) error {
	certs := l.Agent("etc", "containerd", "certs.d")
	settings := crconfig.Settings{
		Root:             l.Agent("containerd"),
		State:            layout.RunDir + "/containerd",
		Socket:           layout.ContainerdSocket,
		Snapshotter:      s.Snapshotter,
		PauseImage:       s.PauseImage,
		CNIBinDir:        layout.CNIBinDir,
		CNIConfDir:       l.CNIConfDir(),
		CertsDir:         certs,
		RestrictOOMScore: !mayLowerOOMScore(),
	}
	if _, err := os.Stat(layout.ShimPath); err == nil {
		settings.ShimPath = layout.ShimPath
	}
	if err := writeRegistries(certs, s.PrivateRegistry, &settings); err != nil {
		return err
	}
	return pki.WriteFile(path, []byte(crconfig.TOML(settings)), 0o600)
}

// writeRegistries makes certs.d from registries.yaml anew, so that a mirror taken out there is gone here.
func writeRegistries(certs, source string, settings *crconfig.Settings) error {
	data, err := os.ReadFile(source)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	config, err := registries.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	if err := os.RemoveAll(certs); err != nil {
		return err
	}
	for host, text := range config.Hosts() {
		dir := filepath.Join(certs, filepath.Base(host))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := pki.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	settings.Registries = config.AuthTOML()
	return nil
}

// mayLowerOOMScore tells whether this process has CAP_SYS_RESOURCE; without it runc cannot give
// containers the scores that kubelet asks for.
func mayLowerOOMScore() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func (c *containerd) keepRunning(ctx context.Context) {
	// The child is told to die with its parent thread, so the thread must not end before the process does.
	runtime.LockOSThread()
	defer close(c.stopped)
	for ctx.Err() == nil {
		began := time.Now()
		err := c.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		logf("containerd ended (%v), starting it again; its log is %s", err, c.logPath)
		c.mu.Lock()
		err = c.write()
		c.mu.Unlock()
		if err != nil {
			logf("cannot configure containerd, its old configuration stays: %v", err)
		}
		if time.Since(began) < 5*time.Second {
			_ = pause(ctx, time.Second) // the loop asks for the end
		}
	}
}

func (c *containerd) runOnce(ctx context.Context) error {
	log, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "--config", c.config, "--log-level", "warn")
	cmd.Args[0] = "containerd"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = childenv.Of(os.Environ(), settingsText())
	// A group of its own: a signal to ours must not stop it before kubelet is done with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.mu.Lock()
	c.started = c.inputs()
	if err := cmd.Start(); err != nil {
		c.mu.Unlock()
		return err
	}
	c.process = cmd.Process
	c.mu.Unlock()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case <-ended:
		}
	}()
	return cmd.Wait()
}

// reread takes changed registries into use. Mirrors are read at each pull; only what containerd reads at its start
// (credentials, proxy, authorities) makes it start again.
func (c *containerd) reread() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write(); err != nil {
		logf("cannot configure containerd, its old configuration stays: %v", err)
		return
	}
	if c.process == nil || c.inputs() == c.started {
		logf("registries are read again")
		return
	}
	logf("registries are read again, and containerd starts again with them")
	_ = c.process.Signal(syscall.SIGTERM)
}

// inputs is a digest of all that containerd reads at its start only.
func (c *containerd) inputs() string {
	config, _ := os.ReadFile(c.config)
	return childenv.Digest(string(config), childenv.Of(os.Environ(), settingsText()))
}

// settingsText is the text of the file that names more of containerd's environment; "" where there is none.
func settingsText() string {
	file := os.Getenv(childenv.FileVariable)
	lines, err := os.ReadFile(file)
	if err != nil && file != "" && !os.IsNotExist(err) {
		logf("cannot read containerd's settings from %s: %v", file, err)
	}
	return string(lines)
}
