package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// statusError is an answer of a registry that is none of those we can use.
type statusError struct {
	status int
	detail string
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("it answered %d %s", e.status, http.StatusText(e.status))
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// classify turns whatever went wrong into a kind and one line.
func classify(err error) *failure {
	var known *failure
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fail("no-space", "the file system has no space left")
	}
	if errors.Is(err, context.Canceled) {
		return fail("interrupted", "it was told to stop")
	}
	if status := statusOf(err); status != 0 {
		return fail(kindOfStatus(status), "%s", oneLine(err))
	}
	if kind := kindOfWire(err); kind != "" {
		return fail(kind, "%s", oneLine(err))
	}
	return fail("other", "%s", oneLine(err))
}

func statusOf(err error) int {
	var ours *statusError
	if errors.As(err, &ours) {
		return ours.status
	}
	var theirs *transport.Error
	if errors.As(err, &theirs) {
		return theirs.StatusCode
	}
	return 0
}

func kindOfStatus(status int) string {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "unauthorized"
	case status == http.StatusNotFound:
		return "not-found"
	case status == http.StatusTooManyRequests || status >= 500:
		return "unreachable"
	}
	return "other"
}

// kindOfWire names what went wrong below HTTP, "" for what is no such thing.
func kindOfWire(err error) string {
	var unknown x509.UnknownAuthorityError
	var wrongHost x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	if errors.As(err, &unknown) || errors.As(err, &wrongHost) || errors.As(err, &invalid) ||
		errors.As(err, &verify) || errors.As(err, &record) {
		return "tls"
	}
	// net/http has a plain error for a server that speaks HTTP where TLS was asked for.
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return "tls"
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) && lookup.IsNotFound {
		return "unknown-host"
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errStalled) {
		return "unreachable"
	}
	return ""
}

// mayRetry tells whether the same request can go well a moment later.
func mayRetry(err error) bool { return classify(err).Kind == "unreachable" }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
