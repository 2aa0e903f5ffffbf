//go:build linux

// Package verify tries in a running guest what the kernel has to be able to do, one check per row of
// capabilities.tsv. A check does the thing and looks at the outcome; it never reads a configuration.
// It must leave nothing behind: namespaces, mounts, groups and files of a check go with it.
package verify

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Row is one line of the list that init's check of the kernel and this package share.
type Row struct {
	Level   string   `json:"level"` // required or optional
	Check   string   `json:"check"` // GROUP.NAME
	Options []string `json:"options"`
	Breaks  string   `json:"breaks"`
}

// Result is a row with what was found.
type Result struct {
	Row
	Outcome string `json:"outcome"` // pass, fail or skip
	Found   string `json:"found"`
	Ms      int64  `json:"ms"`
}

// Report is what the host gets, as one JSON object.
type Report struct {
	Kernel  string   `json:"kernel"`
	Results []Result `json:"results"`
}

// Host is what only the host can tell.
type Host struct {
	Time time.Time // zero when it was not told
}

// check does one thing; it returns what it saw. errSkip says that this machine cannot tell.
type check func(host Host) (found string, err error)

type skip struct{ why string }

func (s skip) Error() string { return s.why }

// checkTimeout bounds one check: the slowest takes under a second under emulation.
const checkTimeout = 15 * time.Second

// checks has one function per row of the list; a unit test holds the two together.
func checks() map[string]check {
	all := map[string]check{}
	for _, group := range []map[string]check{
		bootChecks(), cgroupChecks(), fileChecks(), linkChecks(), bridgeChecks(), natChecks(),
		nftChecks(), policyChecks(), deviceChecks(), clockChecks(),
	} {
		for name, one := range group {
			all[name] = one
		}
	}
	return all
}

// ReadList reads capabilities.tsv.
func ReadList(from io.Reader) ([]Row, error) {
	var rows []Row
	lines := bufio.NewScanner(from)
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 4 || (fields[0] != "required" && fields[0] != "optional") {
			return nil, fmt.Errorf("line %d is not LEVEL, CHECK, OPTIONS, BREAKS with tabs between", number)
		}
		rows = append(rows, Row{fields[0], fields[1], strings.Fields(fields[2]), fields[3]})
	}
	return rows, lines.Err()
}

// Run tries every row, one after the other, so that one check cannot disturb another.
func Run(rows []Row, host Host) []Result {
	return runWith(checks(), rows, host, checkTimeout)
}

func runWith(known map[string]check, rows []Row, host Host, timeout time.Duration) []Result {
	results := make([]Result, 0, len(rows))
	for _, row := range rows {
		results = append(results, try(known[row.Check], row, host, timeout))
	}
	return results
}

func try(one check, row Row, host Host, timeout time.Duration) Result {
	result := Result{Row: row, Outcome: "fail"}
	if one == nil {
		result.Found = "this agent has no such check"
		return result
	}
	type end struct {
		found string
		err   error
	}
	start := time.Now()
	done := make(chan end, 1)
	go func() {
		defer func() {
			if reason := recover(); reason != nil {
				done <- end{err: fmt.Errorf("the check itself failed: %v", reason)}
			}
		}()
		found, err := one(host)
		done <- end{found, err}
	}()
	select {
	case e := <-done:
		result.Outcome, result.Found = outcomeOf(e.found, e.err)
	case <-time.After(timeout):
		result.Found = fmt.Sprintf("it did not end within %v", timeout)
	}
	result.Ms = time.Since(start).Milliseconds()
	return result
}

func outcomeOf(found string, err error) (string, string) {
	var skipped skip
	switch {
	case errors.As(err, &skipped):
		return "skip", skipped.why
	case err != nil:
		return "fail", strings.Join(strings.Fields(err.Error()), " ")
	}
	return "pass", found
}

// Command is `agent verify`: it prints the report and fails only when it cannot make one. Whether a
// failed check matters is the host's to say.
func Command(listPath string, host Host, to io.Writer) error {
	file, err := os.Open(listPath)
	if err != nil {
		return err
	}
	defer file.Close()
	rows, err := ReadList(file)
	if err != nil {
		return err
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	report := Report{strings.TrimSpace(string(release)), Run(rows, host)}
	return json.NewEncoder(to).Encode(report)
}
