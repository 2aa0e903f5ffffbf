package childenv

import (
	"slices"
	"testing"
)

func TestOfGivesContainerdWhatIsItsOwn(t *testing.T) {
	parent := []string{"PATH=/bin", "CONTAINERD_HTTP_PROXY=http://old:1", "CONTAINERD_ENV_FILE=/x", "HTTP_PROXY=http://server:1"}
	got := Of(parent, "HTTP_PROXY=http://new:1\n\nNO_PROXY=a,b\nnonsense\n")
	want := []string{"PATH=/bin", "HTTP_PROXY=http://server:1", "HTTP_PROXY=http://old:1", "HTTP_PROXY=http://new:1", "NO_PROXY=a,b"}
	// exec.Cmd takes the last of several.
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
