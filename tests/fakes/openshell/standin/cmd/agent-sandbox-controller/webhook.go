package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

const (
	kindName       = "sandboxes.agents.x-k8s.io"
	webhookService = "agent-sandbox-webhook-service." + systemNamespace + ".svc"
	convertPath    = "/convert"
	maxReview      = 16 << 20
)

var kinds = schema.GroupVersionResource{
	Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
}

// serveWebhook answers conversions with a certificate of its own, and returns who signed it.
func serveWebhook(address string) (authorityPEM []byte, err error) {
	certificate, err := selfSigned(webhookService)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc(convertPath, convert)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	secure := tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	go func() { log.Fatal(server.Serve(secure)) }()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), nil
}

func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// patchKind names the webhook's authority in the kind, as the real one does at each start.
func patchKind(ctx context.Context, client dynamic.Interface, authorityPEM []byte) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	patch := fmt.Sprintf(`{"spec":{"conversion":{"webhook":{"clientConfig":{"caBundle":%q}}}}}`,
		base64.StdEncoding.EncodeToString(authorityPEM))
	_, err := client.Resource(kinds).Patch(ctx, kindName, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// review is a ConversionReview, as far as it is read.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID     string           `json:"uid"`
	Desired string           `json:"desiredAPIVersion"`
	Objects []map[string]any `json:"objects"`
}

type response struct {
	UID     string           `json:"uid"`
	Objects []map[string]any `json:"convertedObjects"`
	Result  map[string]any   `json:"result"`
}

func convert(w http.ResponseWriter, r *http.Request) {
	var asked review
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReview)).Decode(&asked)
	if err != nil || asked.Request == nil {
		http.Error(w, "not a ConversionReview", http.StatusBadRequest)
		return
	}
	answer := &response{UID: asked.Request.UID, Result: map[string]any{"status": "Success"}}
	for _, object := range asked.Request.Objects {
		answer.Objects = append(answer.Objects, converted(object, asked.Request.Desired))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review{APIVersion: asked.APIVersion, Kind: asked.Kind, Response: answer})
}

// converted gives an object in another version: v1alpha1 has the number of replicas where v1beta1 has a mode.
func converted(object map[string]any, desired string) map[string]any {
	if object["apiVersion"] == desired {
		return object
	}
	object["apiVersion"] = desired
	spec, _ := object["spec"].(map[string]any)
	if spec == nil {
		return object
	}
	if desired == "agents.x-k8s.io/v1beta1" {
		if count, found := spec["replicas"]; found {
			spec["operatingMode"] = "Running"
			if count == float64(0) {
				spec["operatingMode"] = "Suspended"
			}
			delete(spec, "replicas")
		}
		return object
	}
	if mode, found := spec["operatingMode"]; found {
		spec["replicas"] = 1
		if mode == "Suspended" {
			spec["replicas"] = 0
		}
		delete(spec, "operatingMode")
	}
	return object
}
