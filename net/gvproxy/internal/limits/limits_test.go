package limits

import (
	"testing"
)

func TestTheBoundsFitIntoTheProcess(t *testing.T) {
	if used := MaxConnections + MaxForwarded + MaxUDPFlows + MaxLookups; used+64 > MaxDescriptors {
		t.Errorf("%d descriptors", used)
	}
	sum := 0
	for n := range MaxConnections {
		sum += TCPBuffer(n+1) + CopyBuffer(n+1)
	}
	if sum > 20<<20 {
		t.Errorf("%d KiB of buffers in one direction", sum>>10)
	}
}
