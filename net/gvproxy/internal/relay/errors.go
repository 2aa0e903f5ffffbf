package relay

import (
	"fmt"
)

// The codes that a client of the API can switch on.
const (
	CodeBadRequest  = "bad-request"
	CodePortInUse   = "port-in-use"
	CodeNoAddress   = "address-not-available"
	CodeNoRight     = "permission-denied"
	CodeNotFound    = "not-found"
	CodeUnsupported = "unsupported-protocol"
)

// Error is one with a code for the client.
type Error struct {
	Code string
	Text string
}

// Error is the text.
func (e *Error) Error() string { return e.Text }

func failf(code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}
