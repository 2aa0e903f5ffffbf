// Command agent-sandbox-controller stands for agent-sandbox's controller in tests: it makes the pod and the volumes of
// each object of kind Sandbox, converts between the kind's two versions, and needs its lease.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	systemNamespace = "agent-sandbox-system"
	leaseName       = "a3317529.agent-sandbox.x-k8s.io"
)

func main() {
	log.SetFlags(log.LstdFlags)
	elect := flag.Bool("leader-elect", true, "hold a lease while working, so that only one of several does")
	probes := flag.String("health-probe-bind-address", ":8081", "address of the probes")
	webhook := flag.String("webhook-bind-address", ":9443", "address of the conversion webhook")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe(*probes, healthy())) }()
	authority, err := serveWebhook(*webhook)
	if err != nil {
		log.Fatal(err)
	}
	if err := patchKind(ctx, client, authority); err != nil {
		log.Fatalf("failed to patch CRD %s: %v", kindName, err)
	}
	work := &controller{client: client}
	if !*elect {
		work.run(ctx)
		return
	}
	leases, err := coordination.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	lead(ctx, leases, work)
}

func healthy() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}

// lead works while it holds the lease; without it the process ends. The times are those of controller-runtime.
func lead(ctx context.Context, leases coordination.LeasesGetter, work *controller) {
	host, _ := os.Hostname()
	// As controller-runtime names itself: a process that is started again waits until its own old lease has run out.
	host += "_" + rand.Text()
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: systemNamespace, Name: leaseName},
			Client:     leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: host},
		},
		LeaseDuration: 15 * time.Second,
		RenewDeadline: 10 * time.Second,
		RetryPeriod:   2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				work.announce(ctx, host)
				work.run(ctx)
			},
			OnStoppedLeading: func() {
				if ctx.Err() == nil {
					log.Fatal("leader election lost")
				}
			},
		},
	})
}
