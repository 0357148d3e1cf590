package joinapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// Status is an error in the shape of the Kubernetes API's, so that kubectl
// shows the message of whichever of the two answered.
type Status struct {
	Kind       string   `json:"kind"`       // "Status"
	APIVersion string   `json:"apiVersion"` // "v1"
	Metadata   struct{} `json:"metadata"`
	Status     string   `json:"status"` // "Failure"
	Message    string   `json:"message"`
	Reason     string   `json:"reason"` // "Forbidden", "ServiceUnavailable" …
	Code       int      `json:"code"`
}

// WriteStatus answers with a Status; retryAfter in seconds is sent if not 0.
func WriteStatus(w http.ResponseWriter, code, retryAfter int, message string) {
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	// Nobody is left to be told when the connection is gone.
	_ = json.NewEncoder(w).Encode(Status{
		Kind: "Status", APIVersion: "v1", Status: "Failure",
		Message: message, Reason: strings.ReplaceAll(http.StatusText(code), " ", ""), Code: code,
	})
}

// ReadStatus is the message of an error answer, or the beginning of its text
// when it is not a Status.
func ReadStatus(body []byte) string {
	var s Status
	text := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &s) == nil && s.Kind == "Status" {
		text = s.Message
	}
	const show = 300
	if len(text) > show {
		text = text[:show] + "…"
	}
	// What a server says goes to logs and terminals: one line, no controls.
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
