//go:build tools

// Package localpath pins the provisioner of local volumes; it has no code of its own.
package localpath

import _ "github.com/rancher/local-path-provisioner"
