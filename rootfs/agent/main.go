//go:build linux

// Command agent is the guest's end of the two named console ports.
//
//	agent control   owns gw.control: forwards marks to the host and carries out its requests
//	agent stdio     owns gw.stdio: runs the payload's program with the host's stdin, stdout and stderr
//	agent payload   unpacks the payload disk, as the host's request of that name does
//	agent mark      writes one mark with the current uptime to the control agent
//	agent verify    tries what the kernel has to be able to do and prints a report as JSON
//
// It holds no policy: what a mark means and when to ask for what is the host's matter, and stopping
// the guest is PID 1's.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"gateway.local/agent/verify"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

const usage = `usage: agent control [-device PATH] [-marks FIFO] [-payload-device PATH] [-payload DIR]
       agent stdio   [-device PATH] [-payload DIR]
       agent payload [-device PATH] [-payload DIR]
       agent mark    [-marks FIFO] NAME [KEY=VALUE…]
       agent verify  [-list PATH] [-time UNIX-SECONDS]
`

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	commands := map[string]func([]string) error{
		"control": controlCommand,
		"stdio":   stdioCommand,
		"payload": payloadCommand,
		"mark":    markCommand,
		"verify":  verifyCommand,
	}
	command, ok := commands[args[0]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	if err := command(args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "agent %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

const (
	defaultMarks   = "/run/gateway/marks"
	defaultPayload = "/run/payload"
	defaultList    = "/usr/lib/gateway/capabilities.tsv"
)

func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet("agent "+name, flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	return flags
}

func payloadCommand(args []string) error {
	flags := newFlags("payload")
	device := flags.String("device", "", "")
	dir := flags.String("payload", defaultPayload, "")
	_ = flags.Parse(args)
	files, err := unpackPayload(*device, *dir)
	if err == nil {
		fmt.Println("files", files)
	}
	return err
}

func verifyCommand(args []string) error {
	flags := newFlags("verify")
	list := flags.String("list", defaultList, "")
	hostTime := flags.Int64("time", 0, "")
	child := flags.String("child", "", "")
	_ = flags.Parse(args)
	if *child == "greedy" {
		verify.GreedyChild()
		return nil
	}
	host := verify.Host{}
	if *hostTime > 0 {
		host.Time = time.Unix(*hostTime, 0)
	}
	return verify.Command(*list, host, os.Stdout)
}

func markCommand(args []string) error {
	flags := newFlags("mark")
	marks := flags.String("marks", defaultMarks, "")
	_ = flags.Parse(args)
	if flags.NArg() == 0 {
		return fmt.Errorf("a mark needs a name")
	}
	line, err := markLine(flags.Args())
	if err != nil {
		return err
	}
	return writeMark(*marks, line)
}

// markLine returns "<uptime> <name> <key=value>…\n". White space inside a word would make it two.
func markLine(words []string) (string, error) {
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "", err
	}
	line := []string{strings.Fields(string(uptime) + " 0")[0]}
	for _, word := range words {
		line = append(line, strings.Join(strings.Fields(word), "_"))
	}
	return strings.Join(line, " ") + "\n", nil
}
