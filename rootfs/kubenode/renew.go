package main

import (
	"os"
	"syscall"

	"gateway.local/kubenode/internal/pki"
	"gateway.local/kubenode/internal/wallclock"
)

// keepCertificates asks for a new start of the whole program before a leaf certificate ends, and at once when the machine
// was suspended for so long that it has to be made anew. Some parts could read their new files while they run, but the
// clients with a kubeconfig and the API server's certificate for itself could not, and a request with an old one is refused.
func (c *cluster) keepCertificates() {
	certificates, err := identities(c.layout, c.settings)
	if err == nil {
		files := make([]string, len(certificates))
		for i, certificate := range certificates {
			files[i] = certificate.path + ".crt"
		}
		err = pki.AwaitRenewal(c.parts, wallclock.Clock{}, files)
	}
	switch {
	case c.parts.Err() != nil:
	case err != nil:
		logf("cannot watch the certificates, they are renewed at the next start only: %v", err)
	default:
		c.renew <- struct{}{}
	}
}

// startAgain replaces this process by a new one of the same program, with the same number: whoever waits for it sees no end.
func startAgain() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(program, os.Args, os.Environ())
}
