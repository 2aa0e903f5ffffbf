// Package childenv makes the environment of containerd as k3s does: CONTAINERD_HTTP_PROXY becomes
// HTTP_PROXY; and tells when what it reads at its start has changed. It writes no file.
package childenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// prefix marks what is containerd's alone.
const prefix = "CONTAINERD_"

// FileVariable names a file of NAME=VALUE lines that win over the environment; unlike that, it can change while the
// cluster runs, and is read at each start of containerd.
const FileVariable = prefix + "ENV_FILE"

// Of gives the child's environment out of its parent's and the file's text.
func Of(parent []string, file string) []string {
	var own, env []string
	for _, pair := range parent {
		rest, found := strings.CutPrefix(pair, prefix)
		switch {
		case !found:
			env = append(env, pair)
		case !strings.HasPrefix(pair, FileVariable+"="):
			own = append(own, rest)
		}
	}
	env = append(env, own...)
	for line := range strings.Lines(file) {
		// A program cannot be started with a variable that has no name or holds a zero byte.
		if line = strings.TrimSpace(line); strings.Index(line, "=") > 0 && !strings.Contains(line, "\x00") {
			env = append(env, line)
		}
	}
	return env
}

// Digest is of all that a child with this configuration and environment reads at its start: the text, the variables,
// and the authorities in the folders that SSL_CERT_DIR names.
func Digest(config string, env []string) string {
	sum := sha256.New()
	part := func(text string) { fmt.Fprintf(sum, "%d:%s", len(text), text) }
	part(config)
	dirs := ""
	for _, pair := range env {
		part(pair)
		if value, found := strings.CutPrefix(pair, "SSL_CERT_DIR="); found {
			dirs = value // exec.Cmd takes the last of several
		}
	}
	for _, dir := range filepath.SplitList(dirs) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			text, _ := os.ReadFile(filepath.Join(dir, entry.Name()))
			part(entry.Name())
			part(string(text))
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}
