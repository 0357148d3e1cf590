package cli

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

// statusTable is the lines of the table: a section each for units, plugins,
// addons, certificates and the server, of which empty ones are left out.
func statusTable(s serverstatus.Status, now time.Time) []string {
	var out strings.Builder
	section := func(header string, rows [][]string) {
		if len(rows) == 0 {
			return
		}
		if out.Len() > 0 {
			out.WriteByte('\n')
		}
		t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, header)
		for _, row := range rows {
			for i := range row {
				row[i] = display.Cell(row[i])
			}
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		_ = t.Flush() // a strings.Builder takes everything
	}

	var rows [][]string
	for _, u := range s.Units {
		readyAfter := ""
		if u.ReadyAfterMS != nil {
			readyAfter = (time.Duration(*u.ReadyAfterMS) * time.Millisecond).String()
		}
		rows = append(rows, []string{u.Unit, string(u.State), since(u.Since, now), readyAfter, strings.Join(u.WaitingFor, ", "), detail(u)})
	}
	section("UNIT\tSTATE\tSINCE\tREADY AFTER\tWAITING FOR\tERROR", rows)

	rows = nil
	for _, p := range s.Plugins {
		rows = append(rows, []string{p.Name, p.Version, string(p.State), count(p.Calls), count(p.Allowed), count(p.Denied), count(p.Faults),
			latency(p.P50US), latency(p.P99US)})
	}
	section("PLUGIN\tVERSION\tSTATE\tCALLS\tALLOWED\tDENIED\tFAULTS\tP50\tP99", rows)

	rows = nil
	for _, a := range s.Addons {
		rows = append(rows, []string{a.Name, string(a.State), strconv.Itoa(a.Objects), a.File, a.Error})
	}
	section("ADDON\tSTATE\tOBJECTS\tFILE\tERROR", rows)

	rows = nil
	for _, c := range s.Certificates {
		ends, days := "", ""
		if !c.NotAfter.IsZero() {
			ends, days = c.NotAfter.UTC().Format(time.DateOnly), strconv.Itoa(c.DaysLeft)
		}
		text := c.Subject
		if c.Error != "" {
			text = c.Error
		}
		rows = append(rows, []string{c.File, string(c.State), ends, days, text})
	}
	section("CERTIFICATE\tSTATE\tENDS\tDAYS LEFT\tSUBJECT", rows)

	if s.Node != "" {
		datastore := ""
		if s.Datastore != nil {
			datastore = s.Datastore.Description
		}
		section("NODE\tSTATE\tUP\tVERSION\tKUBERNETES\tDATASTORE",
			[][]string{{s.Node, string(s.State), since(s.StartedAt, now), s.Version, s.Kubernetes, datastore}})
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// latency prints microseconds with three digits.
func latency(us float64) string {
	if us <= 0 {
		return ""
	}
	d := time.Duration(us * float64(time.Microsecond))
	unit := time.Nanosecond
	for unit*1000 <= d {
		unit *= 10
	}
	return d.Round(unit).String()
}

// detail is the most telling thing that is known of a unit that is not well.
func detail(u serverstatus.Unit) string {
	switch {
	case u.Error != "":
		return u.Error
	case u.ProbeError != "":
		return u.ProbeError
	}
	return u.Progress
}

// since is an age in the two largest units that matter.
func since(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(now.Sub(t), 0)
	days := int(d / (24 * time.Hour))
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, int(d.Hours())%24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}
