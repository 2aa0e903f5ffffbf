//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	exitNotExecutable = 126
	exitNotFound      = 127
)

// program is what the payload asks to run.
type program struct {
	argv []string
	env  []string
	cwd  string
}

// loadProgram reads exec/argv, exec/env and exec/cwd of an unpacked payload.
func loadProgram(payload string) (program, error) {
	var p program
	argv, err := os.ReadFile(filepath.Join(payload, "exec/argv"))
	if err != nil {
		return p, err
	}
	p.argv = splitNUL(argv)
	if len(p.argv) == 0 || p.argv[0] == "" {
		return p, errors.New("the payload names no program")
	}
	env, err := optional(filepath.Join(payload, "exec/env"))
	if err != nil {
		return p, err
	}
	p.env = mergeEnv([]string{"PATH=" + defaultPath, "HOME=/root"}, splitNUL(env))
	cwd, err := optional(filepath.Join(payload, "exec/cwd"))
	if err != nil {
		return p, err
	}
	if p.cwd = strings.TrimRight(string(cwd), "\x00\n"); p.cwd == "" {
		p.cwd = "/"
	}
	return p, nil
}

func optional(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// splitNUL takes values that are separated by NUL, or each ended by one.
func splitNUL(data []byte) []string {
	text := strings.TrimSuffix(string(data), "\x00")
	if text == "" && len(data) == 0 {
		return nil
	}
	return strings.Split(text, "\x00")
}

// mergeEnv returns base with the variables of over added or replaced.
func mergeEnv(base, over []string) []string {
	var out []string
	set := map[string]bool{}
	for _, variable := range over {
		name, _, ok := strings.Cut(variable, "=")
		if ok && name != "" {
			set[name] = true
			out = append(out, variable)
		}
	}
	for _, variable := range base {
		if name, _, _ := strings.Cut(variable, "="); !set[name] {
			out = append(out, variable)
		}
	}
	return out
}

func getenv(env []string, name string) string {
	for _, variable := range env {
		if key, value, ok := strings.Cut(variable, "="); ok && key == name {
			return value
		}
	}
	return ""
}

// lookup finds the program as a shell would: by the PATH it is going to have, from its directory. On
// failure it returns the exit code that tells why.
func (p *program) lookup() (string, int) {
	name := p.argv[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.cwd, name)
		}
		return name, executable(name)
	}
	worst := exitNotFound
	for _, dir := range filepath.SplitList(getenv(p.env, "PATH")) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(p.cwd, dir)
		}
		path := filepath.Join(dir, name)
		switch executable(path) {
		case 0:
			return path, 0
		case exitNotExecutable:
			worst = exitNotExecutable
		}
	}
	return "", worst
}

// executable returns 0, exitNotFound or exitNotExecutable.
func executable(path string) int {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return exitNotFound
	case err != nil, info.IsDir(), info.Mode()&0o111 == 0:
		return exitNotExecutable
	}
	return 0
}

// start runs the program with the given descriptors. When it cannot, it returns the exit code and
// the line for stderr that say so.
func (p *program) start(stdin, stdout, stderr *os.File) (*os.Process, int, string) {
	if info, err := os.Stat(p.cwd); err != nil || !info.IsDir() {
		return nil, exitNotExecutable, fmt.Sprintf("cannot enter the directory %q\n", p.cwd)
	}
	path, code := p.lookup()
	if code == exitNotFound {
		return nil, code, fmt.Sprintf("%s: not found\n", p.argv[0])
	}
	if code != 0 {
		return nil, code, fmt.Sprintf("%s: not executable\n", p.argv[0])
	}
	process, err := os.StartProcess(path, p.argv, &os.ProcAttr{
		Dir: p.cwd, Env: p.env, Files: []*os.File{stdin, stdout, stderr},
		// Its own session: signals meant for the agent must not reach it, nor the other way round.
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if errors.Is(err, fs.ErrNotExist) {
		// The file is there, so it is its interpreter that is not.
		return nil, exitNotFound, fmt.Sprintf("%s: its interpreter is not found\n", p.argv[0])
	}
	if err != nil {
		return nil, exitNotExecutable, fmt.Sprintf("%s: %v\n", p.argv[0], err)
	}
	return process, 0, ""
}
