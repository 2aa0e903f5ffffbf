package manifests

import (
	"time"

	"gateway.local/kubenode/internal/mapfile"
)

// HealAfter is when a start applies what is in the cluster already, against changes that others made. Sooner it would
// keep pods waiting: the definitions of a payload alone take half a minute under emulation.
const HealAfter = 3 * time.Minute

// Digests maps a manifest's name to the digest of the edition that is whole in one cluster.
type Digests map[string]string

// LoadDigests reads those of a cluster, which is named by a UID of its database: what was applied to another one is not
// in this one.
func LoadDigests(path, cluster string) Digests {
	if noted := mapfile.Load[Digests](path)[cluster]; noted != nil {
		return noted
	}
	return Digests{}
}

// UntilHealed gives the time until this edition of a manifest is to be applied, for a start that began so long ago; zero
// or less means now.
func (d Digests) UntilHealed(name, digest string, sinceStart time.Duration) time.Duration {
	if d[name] != digest {
		return 0
	}
	return HealAfter - sinceStart
}

// Encode is the form on disk, for one cluster.
func (d Digests) Encode(cluster string) ([]byte, error) {
	return mapfile.Encode(map[string]Digests{cluster: d})
}
