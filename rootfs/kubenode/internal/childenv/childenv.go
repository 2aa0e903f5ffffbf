// Package childenv makes the environment of containerd as k3s does: CONTAINERD_HTTP_PROXY becomes
// HTTP_PROXY. It reads and writes no file.
package childenv

import "strings"

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
		if line = strings.TrimSpace(line); strings.Contains(line, "=") {
			env = append(env, line)
		}
	}
	return env
}
