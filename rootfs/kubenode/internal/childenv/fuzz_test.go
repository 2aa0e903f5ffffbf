package childenv

import (
	"strings"
	"testing"
)

// FuzzOf: whatever stands in the file, containerd can be started with the environment.
func FuzzOf(f *testing.F) {
	f.Add("HTTP_PROXY=http://new:1\n\nNO_PROXY=a,b\nnonsense\n")
	f.Add("=\n =x\nA=\x00\r\n#B=c")
	f.Fuzz(func(t *testing.T, file string) {
		for _, pair := range Of([]string{"PATH=/bin"}, file) {
			name, _, found := strings.Cut(pair, "=")
			if !found || name == "" || strings.ContainsAny(pair, "\x00\n") {
				t.Fatalf("the variable %q", pair)
			}
		}
	})
}
