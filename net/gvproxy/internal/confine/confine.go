// Package confine gives up what this process does not need once its sockets are open.
// It must not open anything for it, nor end the process where the host can confine less.
package confine

// State is the body of GET /confinement: what the process has given up, as the host tells it.
type State struct {
	// User is the numeric id of whom it runs as.
	User int `json:"user"`
	// Landlock is the version by which its files are confined; 0 where the host has none.
	Landlock int `json:"landlock"`
	// Why says what of it is missing; "" when nothing is.
	Why string `json:"why"`
}
