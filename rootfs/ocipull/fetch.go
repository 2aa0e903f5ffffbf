package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// attempts is how often one endpoint is asked while it does not answer; the pauses double.
const attempts = 4

// stallLimit is how long a download may bring nothing.
const stallLimit = 60 * time.Second

// manifestLimit bounds a manifest, as registries do.
const manifestLimit = 4 << 20

var errStalled = errors.New("it sent nothing for a minute")

// connect logs in once; a login that failed is tried anew at the next request.
func (e *endpoint) connect(ctx context.Context) (http.RoundTripper, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ready != nil {
		return e.ready, nil
	}
	registry, err := name.NewRegistry(e.host)
	if err != nil {
		return nil, fail("registries", "%v", err)
	}
	e.wire.last.Store(nil)
	scope := "repository:" + e.repo + ":pull"
	ready, err := transport.NewWithContext(ctx, registry, e.login, e.wire, []string{scope})
	if err != nil {
		// Loopback and private addresses are tried without TLS too by the library, and both errors come as a text.
		if below := e.wire.last.Load(); below != nil && statusOf(err) == 0 {
			return nil, *below
		}
		return nil, err
	}
	e.ready = ready
	return ready, nil
}

// get asks for one path of the repository, from a byte on.
func (e *endpoint) get(ctx context.Context, path string, accept []string, offset int64) (*http.Response, error) {
	client, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("https://%s/v2/%s/%s", e.host, e.repo, path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	for _, one := range accept {
		request.Header.Add("Accept", one)
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	response, err := (&http.Client{Transport: client}).Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusPartialContent {
		return response, nil
	}
	defer response.Body.Close()
	return nil, &statusError{status: response.StatusCode}
}

// telling orders the failures of several endpoints: the first of these is what the user should look at.
var telling = []string{"digest", "tls", "unauthorized", "layout", "other", "unreachable", "unknown-host", "not-found"}

// each tries the endpoints in order, each a few times while it does not answer, until one has it.
func (p *puller) each(ctx context.Context, what string, try func(*endpoint) error) error {
	var told []string
	kind := ""
	for _, e := range p.order() {
		err := p.patiently(ctx, what, e, try)
		if err == nil {
			p.worked(e)
			return nil
		}
		last := classify(err)
		if slices.Contains([]string{"interrupted", "no-space", "request"}, last.Kind) {
			return last
		}
		told = append(told, fmt.Sprintf("%s: %s", e, last.Why))
		if kind == "" || slices.Index(telling, last.Kind) < slices.Index(telling, kind) {
			kind = last.Kind
		}
	}
	return fail(kind, "%s", strings.Join(told, "; "))
}

func (p *puller) patiently(ctx context.Context, what string, e *endpoint, try func(*endpoint) error) error {
	pause := p.pause
	for attempt := 1; ; attempt++ {
		before := p.fetched.Load()
		err := try(e)
		if p.fetched.Load() > before {
			// It gives something each time: that is slow, but it ends.
			attempt, pause = 1, p.pause
		}
		if err == nil || ctx.Err() != nil || attempt == attempts || !mayRetry(err) {
			if ctx.Err() != nil {
				return context.Canceled
			}
			return err
		}
		p.out.note("%s does not give %s (%s); trying again", e, what, oneLine(err))
		select {
		case <-ctx.Done():
			return context.Canceled
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// manifest fetches a manifest or index and holds it against its digest.
func (p *puller) manifest(ctx context.Context, digest string) ([]byte, error) {
	if content, err := p.blobs.read(digest); err == nil {
		return content, nil
	}
	content, err := p.ask(ctx, digest, func(got []byte) error {
		if found := digestOf(got); found != digest {
			return fail("digest", "it gave a manifest with the digest %s", found)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.fetched.Add(int64(len(content)))
	return content, p.blobs.write(digest, content)
}

// ask fetches what a tag or digest stands for from the first endpoint whose answer passes the check.
func (p *puller) ask(ctx context.Context, reference string, check func([]byte) error) ([]byte, error) {
	var content []byte
	err := p.each(ctx, "the manifest", func(e *endpoint) error {
		response, err := e.get(ctx, "manifests/"+reference, manifestTypes, 0)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		got, err := io.ReadAll(io.LimitReader(response.Body, manifestLimit+1))
		if err != nil {
			return err
		}
		if len(got) > manifestLimit {
			return fail("other", "its manifest has more than %d bytes", manifestLimit)
		}
		if err := check(got); err != nil {
			return err
		}
		content = got
		return nil
	})
	return content, err
}

// digest tells what the tag stands for now; no file is written.
func (p *puller) digest(ctx context.Context) (*result, error) {
	content, err := p.ask(ctx, p.tag, func(got []byte) error {
		var found document
		if err := json.Unmarshal(got, &found); err != nil || found.SchemaVersion != 2 {
			return fail("layout", "what it gave for the tag %q is no manifest", p.tag)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	size := int64(len(content))
	return &result{Manifest: digestOf(content), Bytes: size, Fetched: size}, nil
}

// blob makes sure that a blob is in the cache.
func (p *puller) blob(ctx context.Context, d descriptor) error {
	return p.blobs.hold(ctx, p.out, d, func(part *partial) error {
		return p.each(ctx, "the blob "+short(d.Digest), func(e *endpoint) error { return p.download(ctx, e, d, part) })
	})
}

// download goes on where the partial file ends.
func (p *puller) download(ctx context.Context, e *endpoint, d descriptor, part *partial) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resumed := part.size
	if resumed > d.Size {
		if err := part.restart(); err != nil {
			return err
		}
		resumed = 0
	}
	if resumed < d.Size || d.Size == 0 {
		response, err := e.get(ctx, "blobs/"+d.Digest, nil, resumed)
		if status := statusOf(err); status == http.StatusRequestedRangeNotSatisfiable {
			if err := part.restart(); err != nil {
				return err
			}
			return fmt.Errorf("%w: it cannot go on at byte %d", io.ErrUnexpectedEOF, resumed)
		}
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK && resumed > 0 {
			p.count(-resumed)
			resumed = 0
			if err := part.restart(); err != nil {
				return err
			}
		}
		watch := time.AfterFunc(stallLimit, func() { cancel(errStalled) })
		defer watch.Stop()
		if err := p.copy(part, response.Body, d.Size, watch); err != nil {
			if context.Cause(ctx) == errStalled {
				return errStalled
			}
			return err
		}
	}
	if found := part.digest(); found != d.Digest {
		size := part.size
		p.count(-size)
		if err := part.restart(); err != nil {
			return err
		}
		if resumed > 0 {
			// What was on the disk may be what is wrong: once more, from the start.
			return fmt.Errorf("%w: what was there of it does not fit", io.ErrUnexpectedEOF)
		}
		return fail("digest", "it gave a blob with the digest %s instead of %s", found, d.Digest)
	}
	return nil
}

// copy appends the body to the partial file; one that ends early is an error that is worth another try.
func (p *puller) copy(part *partial, body io.Reader, size int64, watch *time.Timer) error {
	buffer := make([]byte, 128<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			watch.Reset(stallLimit)
			if part.size+int64(n) > size {
				return fail("digest", "it gave a blob that is longer than %d bytes", size)
			}
			if err := part.append(buffer[:n]); err != nil {
				return err
			}
			p.fetched.Add(int64(n))
			p.count(int64(n))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if part.size < size {
		return fmt.Errorf("%w: it ended after %d of %d bytes", io.ErrUnexpectedEOF, part.size, size)
	}
	return nil
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func short(digest string) string {
	_, sum, _ := strings.Cut(digest, ":")
	return sum[:min(12, len(sum))]
}
