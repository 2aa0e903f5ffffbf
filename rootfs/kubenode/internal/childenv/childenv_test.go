package childenv

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOfGivesContainerdWhatIsItsOwn(t *testing.T) {
	parent := []string{"PATH=/bin", "CONTAINERD_HTTP_PROXY=http://old:1", "CONTAINERD_ENV_FILE=/x", "HTTP_PROXY=http://server:1"}
	got := Of(parent, "HTTP_PROXY=http://new:1\n\nNO_PROXY=a,b\nnonsense\n=nameless\nZERO=a\x00b\n")
	want := []string{"PATH=/bin", "HTTP_PROXY=http://server:1", "HTTP_PROXY=http://old:1", "HTTP_PROXY=http://new:1", "NO_PROXY=a,b"}
	// exec.Cmd takes the last of several.
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestDigestTellsWhatIsReadAtTheStart(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "host-ca.pem"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"SSL_CERT_DIR=/none", "SSL_CERT_DIR=" + dir}
	write("one")
	first := Digest("config", env)
	if Digest("config", slices.Clone(env)) != first {
		t.Error("the same inputs differ")
	}
	for name, other := range map[string]string{
		"another configuration": Digest("confi", env),
		"another variable":      Digest("config", append([]string{"HTTP_PROXY=http://p:1"}, env...)),
		"moved bytes":           Digest("configS", append([]string{"SL_CERT_DIR=/none"}, env[1:]...)),
	} {
		if other == first {
			t.Errorf("%s is not seen", name)
		}
	}
	write("two")
	if Digest("config", env) == first {
		t.Error("a changed authority is not seen")
	}
}
