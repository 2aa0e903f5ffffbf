package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"testing"
)

func TestAConfinedGvproxySaysSo(t *testing.T) {
	p := startProxy(t)
	status, told := p.call("GET", "/confinement", nil)
	if status != http.StatusOK || told["landlock"] == 0.0 && told["why"] == "" {
		t.Errorf("got %d %v", status, told)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0+(400)?"} {
		got := regexp.MustCompile(`(?m)^` + name + `:\s*(\S+)`).FindStringSubmatch(string(text))
		if len(got) < 2 || !regexp.MustCompile("^"+want).MatchString(got[1]) {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}
}
