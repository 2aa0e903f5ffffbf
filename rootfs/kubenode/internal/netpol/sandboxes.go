package netpol

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Results is where the CNI library keeps what it set up; the file of a pod is there before its first container starts,
// and goes with its sandbox.
const Results = "/var/lib/cni/results"

// settled is how long a folder must have stood still before its time says that nothing was added since.
const settled = time.Second

// sandboxes knows the pods that have an address on this node, whether or not the API server knows it yet.
type sandboxes struct {
	dir string

	mutex    sync.Mutex
	modified time.Time
	keys     map[string]string // address to NAMESPACE/NAME
}

// keyOf gives the NAMESPACE/NAME of the pod that has the address, "" for none.
func (s *sandboxes) keyOf(address string) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	info, err := os.Stat(s.dir)
	if err != nil {
		return ""
	}
	if modified := info.ModTime(); s.keys == nil || !modified.Equal(s.modified) || time.Since(modified) < settled {
		s.keys, s.modified = Owners(s.dir), modified
	}
	return s.keys[address]
}

// result is the part of a CNI result that matters here.
type result struct {
	CNIArgs [][2]string `json:"cniArgs"`
	Result  struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	} `json:"result"`
}

// Owners gives the NAMESPACE/NAME of the pod that has each address, from the results of the CNI library.
func Owners(dir string) map[string]string {
	keys := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is sound
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // its sandbox just went
		}
		var read result
		if json.Unmarshal(data, &read) != nil {
			continue // it is being written: its pod has no container yet
		}
		var namespace, name string
		for _, arg := range read.CNIArgs {
			switch arg[0] {
			case "K8S_POD_NAMESPACE":
				namespace = arg[1]
			case "K8S_POD_NAME":
				name = arg[1]
			}
		}
		for _, ip := range read.Result.IPs {
			if address, _, err := net.ParseCIDR(ip.Address); err == nil && !address.IsLoopback() && name != "" {
				keys[address.String()] = namespace + "/" + name
			}
		}
	}
	return keys
}
