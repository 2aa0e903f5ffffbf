package crconfig

import (
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// FuzzQuote: a text is read from the configuration as it was written.
func FuzzQuote(f *testing.F) {
	f.Add("plain \"quoted\" \\ \a\v\x7f\u0085\ufffe\U0001f600")
	f.Add("\xff\x00")
	f.Fuzz(func(t *testing.T, text string) {
		var read map[string]string
		if err := toml.Unmarshal([]byte("text = "+Quote(text)+"\n"), &read); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		// TOML has no bytes that are not UTF-8.
		if want := string([]rune(text)); read["text"] != want {
			t.Fatalf("%q is read as %q", text, read["text"])
		}
		if TOML(Settings{Root: text}) == "" || strings.Contains(Quote(text), "\n") {
			t.Fatalf("%q is more than one line", text)
		}
	})
}
