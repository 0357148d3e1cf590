package pluginhost

// NoticeKind says what happened.
type NoticeKind string

// The kinds of notices.
const (
	NoticeFault      NoticeKind = "fault"       // a call came to no answer
	NoticeOff        NoticeKind = "off"         // the circuit breaker took a plugin out
	NoticeOn         NoticeKind = "on"          // it let the plugin in again
	NoticeReloaded   NoticeKind = "reloaded"    // another generation decides
	NoticeRolledBack NoticeKind = "rolled-back" // a generation failed on trial
	NoticeDiffers    NoticeKind = "differs"     // a shadow decided otherwise
)

// Notice is what an operator should know about a plugin.
type Notice struct {
	Kind    NoticeKind
	Plugin  string // "" when it is about all
	Version string // of the plugin
	Detail  string // one line
	Advice  string // what to do, if there is anything
	Capture string // id of the capture, "" if none was taken
}

func (h *Host) notify(n Notice) {
	if h.observe != nil {
		h.observe(n)
	}
}
