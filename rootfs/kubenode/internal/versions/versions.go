// Package versions names what kubenode is made of; its test holds it to go.mod.
package versions

// The versions that go.mod pins, and kubenode's own.
const (
	Kubernetes = "v1.37.2"
	Containerd = "v2.4.2"
	Kine       = "v0.17.5"
	Helm       = "v0.17.9"
	Policies   = "v0.8.0"
	Kubenode   = Kubernetes + "+gateway.1"
)
