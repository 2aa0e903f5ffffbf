package imageload

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxIndexBytes bounds index.json, which is kept in memory.
const maxIndexBytes = 4 << 20

// MissingBlobError says that the archive neither holds a blob of its image nor the node has it.
type MissingBlobError struct{ Digest digest.Digest }

func (e *MissingBlobError) Error() string {
	return fmt.Sprintf("the archive lacks %s", e.Digest)
}

// ingest is the content store that an archive is read into. It reports what has arrived, so that layers are unpacked
// while later ones are still under way.
type ingest struct {
	content.Store
	leases leases.Manager
	lease  leases.Lease
	index  chan ocispec.Descriptor // the archive's index.json, sent once
	ended  chan struct{}           // closed after the last blob

	mu      sync.Mutex
	sent    bool
	arrived map[digest.Digest]chan struct{}
}

func newIngest(store content.Store, manager leases.Manager, lease leases.Lease) *ingest {
	return &ingest{
		Store: store, leases: manager, lease: lease,
		index: make(chan ocispec.Descriptor, 1), ended: make(chan struct{}), arrived: map[digest.Digest]chan struct{}{},
	}
}

// Writer gives each load a write of its own: one that was cut is never continued, since nobody knows what it holds.
func (s *ingest) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var asked content.WriterOpts
	for _, opt := range opts {
		if err := opt(&asked); err != nil {
			return nil, err
		}
	}
	writer, err := s.Store.Writer(ctx, append(opts, content.WithRef(s.lease.ID+"-"+asked.Ref))...)
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(asked.Ref, "tar-")
	return &blobWriter{Writer: writer, ingest: s, name: name, isIndex: name == ocispec.ImageIndexFile}, nil
}

type blobWriter struct {
	content.Writer
	ingest  *ingest
	name    string
	isIndex bool
	kept    bytes.Buffer
}

func (w *blobWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.isIndex && err == nil {
		if w.kept.Len()+n > maxIndexBytes {
			return n, fmt.Errorf("index.json has more than %d bytes", maxIndexBytes)
		}
		w.kept.Write(p[:n])
	}
	return n, err
}

func (w *blobWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	err := w.Writer.Commit(ctx, size, expected, opts...)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	s := w.ingest
	if named := digest.NewDigestFromEncoded(digest.SHA256, path.Base(w.name)); named.Validate() == nil {
		s.announce(named)
	}
	if w.isIndex && !s.sent {
		s.sent = true
		s.index <- ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageIndex,
			Digest:    digest.FromBytes(w.kept.Bytes()),
			Size:      int64(w.kept.Len()),
		}
	}
	return err
}

func (s *ingest) announce(named digest.Digest) {
	arrived := s.signal(named)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-arrived:
	default:
		close(arrived)
	}
}

// signal gives the channel that is closed when a blob of this name was written.
func (s *ingest) signal(named digest.Digest) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.arrived[named] == nil {
		s.arrived[named] = make(chan struct{})
	}
	return s.arrived[named]
}

// wait returns when the store has the blob, and keeps it from being collected until the load is over.
func (s *ingest) wait(ctx context.Context, want digest.Digest) error {
	now := make(chan struct{})
	close(now)
	// It may be there from before, arrive, or have come under a name that is not its digest.
	for _, event := range []chan struct{}{now, s.signal(want), s.ended} {
		select {
		case <-event:
		case <-s.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
		held, err := s.hold(ctx, want)
		if held || err != nil {
			return err
		}
	}
	return &MissingBlobError{want}
}

func (s *ingest) hold(ctx context.Context, want digest.Digest) (bool, error) {
	resource := leases.Resource{ID: want.String(), Type: "content"}
	if err := s.leases.AddResource(ctx, s.lease, resource); err != nil && !errdefs.IsNotFound(err) {
		return false, err
	}
	// The lease may name what is not there; only then it is known to stay.
	_, err := s.Store.Info(ctx, want)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
