package main

import (
	"encoding/base64"
	"fmt"
	"os"

	"gateway.local/kubenode/internal/pki"
)

// credentials name the files of one client of the API server.
type credentials struct {
	server, ca, cert, key string
}

// kubeconfig renders a kubeconfig with everything inside, so that it can be copied out of the guest.
func (c credentials) kubeconfig() ([]byte, error) {
	var data [3]string
	for i, path := range []string{c.ca, c.cert, c.key} {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		data[i] = base64.StdEncoding.EncodeToString(content)
	}
	return []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: %s
    certificate-authority-data: %s
contexts:
- name: default
  context:
    cluster: default
    user: default
current-context: default
preferences: {}
users:
- name: default
  user:
    client-certificate-data: %s
    client-key-data: %s
`, c.server, data[0], data[1], data[2])), nil
}

// write puts the kubeconfig at path with the given permissions.
func (c credentials) write(path string, mode os.FileMode) error {
	text, err := c.kubeconfig()
	if err != nil {
		return fmt.Errorf("cannot make the kubeconfig %s: %w", path, err)
	}
	return pki.WriteFile(path, text, mode)
}
