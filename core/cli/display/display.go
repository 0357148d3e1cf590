// Package display makes text from elsewhere fit for a terminal.
package display

import "strings"

// Cell makes text fit one cell of a table: "-" for none, and a blank for each
// character that would move the cursor or change how the terminal looks.
func Cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
