package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/emicklei/go-restful/v3"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/component-base/version"
	openapi "k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/handler3"
)

const (
	openAPIV2Path = "/openapi/v2"
	openAPIV3Path = "/openapi/v3"
	// Kubernetes lets a client keep a document that it asked for by its hash for a year.
	foreverInCaches = "public, immutable, max-age=31536000"
)

// openAPIDocuments describes the built-in APIs to clients. Kubernetes makes all of it at each start, a sixth of the start's
// work, and asks for all of it at once, only to put hashes into a list. Here it is made when somebody asks.
type openAPIDocuments struct {
	// hash changes whenever a document can.
	hash   string
	v2, v3 http.Handler
	// names gives the list of v3's documents. The aggregator asks for it once a second.
	names func() ([]byte, error)
}

// newOpenAPIDocuments takes the flags of the API server, since they choose what it serves.
func newOpenAPIDocuments(services *restful.Container, v2 *openapi.Config, v3 *openapi.OpenAPIV3Config, flags []string) *openAPIDocuments {
	build := version.Get()
	sum := sha256.Sum256([]byte(build.GitVersion + build.GitCommit + "\n" + strings.Join(flags, "\n")))
	hash := strings.ToUpper(hex.EncodeToString(sum[:]))
	return &openAPIDocuments{
		hash:  hash,
		names: sync.OnceValues(func() ([]byte, error) { return listDocuments(services, hash) }),
		v2:    whenAsked(func(m *mux.PathRecorderMux) { routes.OpenAPI{Config: v2}.InstallV2(services, m) }),
		v3:    whenAsked(func(m *mux.PathRecorderMux) { routes.OpenAPI{V3Config: v3}.InstallV3(services, m) }),
	}
}

// whenAsked installs the pages at the first request.
func whenAsked(install func(*mux.PathRecorderMux)) http.Handler {
	pages := sync.OnceValue(func() http.Handler {
		m := mux.NewPathRecorderMux("openapi")
		install(m)
		return m
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pages().ServeHTTP(w, r) })
}

func (d *openAPIDocuments) serve(server *genericapiserver.GenericAPIServer) {
	pages := server.Handler.NonGoRestfulMux
	pages.Handle(openAPIV2Path, d.v2)
	pages.HandleFunc(openAPIV3Path, d.list)
	pages.HandlePrefix(openAPIV3Path+"/", http.HandlerFunc(d.one))
}

// listDocuments names the documents of OpenAPI v3 and where they are.
func listDocuments(services *restful.Container, hash string) ([]byte, error) {
	found := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for _, service := range services.RegisteredWebServices() {
		name := strings.TrimPrefix(service.RootPath(), "/")
		found.Paths[name] = handler3.OpenAPIV3DiscoveryGroupVersion{
			ServerRelativeURL: path.Join(openAPIV3Path, name) + "?hash=" + hash,
		}
	}
	return json.Marshal(found)
}

func (d *openAPIDocuments) list(w http.ResponseWriter, _ *http.Request) {
	text, err := d.names()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Etag", `"`+d.hash+`"`)
	_, _ = w.Write(text)
}

// one gives one document of OpenAPI v3. A client that has the hash from the list may keep it.
func (d *openAPIDocuments) one(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if hash := query.Get("hash"); hash != "" && hash != d.hash {
		http.Redirect(w, r, r.URL.Path+"?hash="+d.hash, http.StatusMovedPermanently)
		return
	}
	if query.Has("hash") {
		w.Header().Set("Cache-Control", foreverInCaches)
		query.Del("hash") // Kubernetes' own is another one
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
	}
	d.v3.ServeHTTP(w, r)
}
