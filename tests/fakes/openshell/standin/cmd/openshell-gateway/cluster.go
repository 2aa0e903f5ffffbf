package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"gateway.local/standin/wire"
)

const (
	phaseProvisioning = "Provisioning"
	phaseReady        = "Ready"
	phaseError        = "Error"

	idLabel = "openshell.ai/sandbox-id"
	// workspacePrefix is the user's default workspace in the names of objects.
	workspacePrefix = "default--"
)

var (
	sandboxes    = schema.GroupVersionResource{Group: "agents.x-k8s.io", Version: "v1beta1", Resource: "sandboxes"}
	pods         = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	tokenReviews = schema.GroupVersionResource{Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews"}
)

// cluster makes sandboxes as objects of kind Sandbox; what becomes of them is the controller's.
type cluster struct {
	settings driverSettings
	client   dynamic.Interface
}

func newCluster(settings driverSettings) (*cluster, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = 20 * time.Second
	client, err := dynamic.NewForConfig(config)
	return &cluster{settings, client}, err
}

func (c *cluster) sandboxes() dynamic.ResourceInterface {
	return c.client.Resource(sandboxes).Namespace(c.settings.Namespace)
}

func (c *cluster) create(ctx context.Context, made record, request *wire.CreateRequest) error {
	object := sandboxObject(c.settings, made, request)
	_, err := c.sandboxes().Create(ctx, object, metav1.CreateOptions{})
	return err
}

func (c *cluster) remove(ctx context.Context, name string) error {
	err := c.sandboxes().Delete(ctx, workspacePrefix+name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// phase goes by the condition that agent-sandbox sets, and an ended main process.
func (c *cluster) phase(ctx context.Context, name string) (phase, reason string) {
	object, err := c.sandboxes().Get(ctx, workspacePrefix+name, metav1.GetOptions{})
	if err != nil {
		return phaseError, ": " + err.Error()
	}
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, one := range conditions {
		condition, _ := one.(map[string]any)
		switch {
		case condition["type"] != "Ready":
		case condition["status"] == "True":
			return phaseReady, ""
		case condition["reason"] == "MainProcessExited":
			return phaseError, ": MainProcessExited"
		}
	}
	return phaseProvisioning, ""
}

func (c *cluster) pod(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	return c.client.Resource(pods).Namespace(c.settings.Namespace).Get(ctx, name, metav1.GetOptions{})
}

// address is the IP of a sandbox's pod, which has the name of its Sandbox.
func (c *cluster) address(ctx context.Context, name string) (string, error) {
	pod, err := c.pod(ctx, workspacePrefix+name)
	if err != nil {
		return "", err
	}
	ip, _, _ := unstructured.NestedString(pod.Object, "status", "podIP")
	if ip == "" {
		return "", fmt.Errorf("pod %s has no address", pod.GetName())
	}
	return ip, nil
}

// sandboxOf gives the ID of the sandbox whose pod has this token.
func (c *cluster) sandboxOf(ctx context.Context, token string) (string, error) {
	review, err := c.client.Resource(tokenReviews).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1",
		"kind":       "TokenReview",
		"spec":       map[string]any{"token": token, "audiences": []any{wire.TokenAudience}},
	}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	if good, _, _ := unstructured.NestedBool(review.Object, "status", "authenticated"); !good {
		return "", errors.New("the ServiceAccount token is not valid")
	}
	account, _, _ := unstructured.NestedString(review.Object, "status", "user", "username")
	if want := "system:serviceaccount:" + c.settings.Namespace + ":" + c.settings.ServiceAccount; account != want {
		return "", fmt.Errorf("%s is not the account of sandboxes", account)
	}
	names, _, _ := unstructured.NestedStringSlice(
		review.Object, "status", "user", "extra", "authentication.kubernetes.io/pod-name")
	if len(names) != 1 {
		return "", errors.New("the ServiceAccount token does not name a pod")
	}
	pod, err := c.pod(ctx, names[0])
	if err != nil {
		return "", err
	}
	id := pod.GetLabels()[idLabel]
	if id == "" {
		return "", fmt.Errorf("pod %s is not a sandbox", names[0])
	}
	return id, nil
}
