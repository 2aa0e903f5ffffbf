//go:build linux

package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

const list = "../../../kernel/capabilities.tsv"

func readList(t *testing.T) []Row {
	t.Helper()
	file, err := os.Open(list)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := ReadList(file)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestEveryRowHasACheckAndEveryCheckARow(t *testing.T) {
	var listed []string
	for _, row := range readList(t) {
		listed = append(listed, row.Check)
		if len(row.Options) == 0 || len(row.Breaks) < 10 {
			t.Errorf("%s names no option or nothing that breaks", row.Check)
		}
	}
	for name := range checks() {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not in the list", name)
		}
	}
	for i, name := range listed {
		if checks()[name] == nil || slices.Contains(listed[:i], name) {
			t.Errorf("%s has no check, or is there twice", name)
		}
	}
}

func TestReadListNamesTheLineThatIsWrong(t *testing.T) {
	for _, text := range []string{
		"# a comment\n\nrequired\ta.b\tCONFIG_A\n", "#\n\nneeded\ta.b\tCONFIG_A\tall of it\n",
	} {
		if _, err := ReadList(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%q gave %v", text, err)
		}
	}
	rows, err := ReadList(strings.NewReader("optional\ta.b\tCONFIG_A CONFIG_B\twhat breaks\n"))
	if err != nil || len(rows) != 1 || !slices.Equal(rows[0].Options, []string{"CONFIG_A", "CONFIG_B"}) {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestRunTellsPassFailSkipAndWhatHangs(t *testing.T) {
	known := map[string]check{
		"t.pass": func(Host) (string, error) { return "seen", nil },
		"t.fail": func(Host) (string, error) { return "not seen", errors.New("it\nbroke") },
		"t.skip": func(Host) (string, error) { return "", skip{"cannot tell"} },
		"t.hang": func(Host) (string, error) { select {} },
		"t.bug":  func(Host) (string, error) { panic("oops") },
	}
	want := map[string][2]string{
		"t.pass": {"pass", "seen"}, "t.fail": {"fail", "it broke"}, "t.skip": {"skip", "cannot tell"},
		"t.hang": {"fail", "it did not end within 50ms"}, "t.bug": {"fail", "the check itself failed: oops"},
		"t.none": {"fail", "this agent has no such check"},
	}
	for name, expected := range want {
		results := runWith(known, []Row{{Level: "required", Check: name}}, Host{}, 50*time.Millisecond)
		if got := [2]string{results[0].Outcome, results[0].Found}; got != expected {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestCommandPrintsOneReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	text := "required\tentropy.getrandom\tCONFIG_X\tkeys\nrequired\tclock.wall\tCONFIG_Y\tcertificates\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		time    time.Time
		outcome string
	}{{time.Time{}, "skip"}, {time.Now(), "pass"}, {time.Now().Add(-time.Hour), "fail"}} {
		var out bytes.Buffer
		if err := Command(path, Host{Time: c.time}, &out); err != nil {
			t.Fatal(err)
		}
		var report Report
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		if report.Kernel == "" || report.Results[0].Outcome != "pass" || report.Results[1].Outcome != c.outcome {
			t.Errorf("%+v", report)
		}
	}
	if err := Command(path+"2", Host{}, &bytes.Buffer{}); err == nil {
		t.Error("a list that is not there gave no error")
	}
}

// needsRoot skips where namespaces cannot be made.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if s, err := newSpace(); err != nil {
		t.Skip("this host makes no network namespaces: ", err)
	} else {
		s.close()
	}
}

func TestPacketsGoThroughACable(t *testing.T) {
	needsRoot(t)
	if found, err := vethPacket(Host{}); err != nil || !strings.Contains(found, "10.77.0.1") {
		t.Errorf("%q, %v", found, err)
	}
}

func TestACutCableIsNoticed(t *testing.T) {
	needsRoot(t)
	_, err := withSpaces(2, func(s []*space) (string, error) {
		if err := s[0].cable("a", "10.77.0.1/24", s[1], "b", "10.77.0.2/24"); err != nil {
			t.Fatal(err)
		}
		end, err := s[1].link.LinkByName("b")
		if err != nil {
			t.Fatal(err)
		}
		if err := s[1].link.LinkSetDown(end); err != nil {
			t.Fatal(err)
		}
		return s[0].exchange(s[1], "0.0.0.0:9000", "10.77.0.2:9000")
	})
	if err == nil {
		t.Error("an answer came through a device that is down")
	}
}

func TestChecksLeaveTheirCallersNamespaceAlone(t *testing.T) {
	needsRoot(t)
	before, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = vethPacket(Host{})
	_, _ = bridgePacket(Host{})
	_, _ = tunPacket(Host{})
	after, err := netlink.LinkList()
	if err != nil || len(after) != len(before) {
		t.Errorf("%d devices became %d (%v)", len(before), len(after), err)
	}
}

func TestReadQueuedTakesAMessageWhoseEndIsNotPadded(t *testing.T) {
	message := []byte{11, 0, 1, 0, 0, 0, 0, 9, 8, 0, 4, 0, 7, 0, 10, 0, 'a', 'b', 'c'}
	if id, payload := readQueued(message); !bytes.Equal(id, []byte{0, 0, 0, 9}) || string(payload) != "abc" {
		t.Errorf("%v, %q", id, payload)
	}
	for cut := range message {
		readQueued(message[:cut]) // a cut message must not end the agent
	}
}

func TestUDPPortReadsPastTheOptionsOfAHeader(t *testing.T) {
	packet := append([]byte{0x46}, make([]byte, 23)...)
	if got := udpPort(append(packet, 0, 1, 0x23, 0x28)); got != openPort {
		t.Errorf("got %q", got)
	}
	if got := udpPort(packet); got != "" {
		t.Errorf("a packet that ends early gave %q", got)
	}
}

func TestThreadsKeepTheirFiltersToThemselves(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the checks need root")
	}
	for name, one := range map[string]check{"seccomp": bootSeccomp, "keyring": bootKeyring, "unix": bootUnix} {
		for range 2 { // twice: what the first left would stop the second
			if _, err := one(Host{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
