// Package stats is the arithmetic of the benchmarks.
package stats

import "fmt"

// Median of sorted values, of which there is at least one.
func Median(sorted []float64) float64 {
	half := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[half-1] + sorted[half]) / 2
	}
	return sorted[half]
}

// Line is y = Base + Slope·x.
type Line struct{ Base, Slope float64 }

// Fit is the line of the least squares through points, of which at least two have
// different x.
func Fit(x, y []float64) (Line, error) {
	if len(x) != len(y) {
		return Line{}, fmt.Errorf("%d values of x and %d of y", len(x), len(y))
	}
	var mx, my float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += y[i] / float64(len(y))
	}
	var xx, xy float64
	for i := range x {
		xx += (x[i] - mx) * (x[i] - mx)
		xy += (x[i] - mx) * (y[i] - my)
	}
	if xx == 0 {
		return Line{}, fmt.Errorf("%d points with one and the same x make no line", len(x))
	}
	slope := xy / xx
	return Line{Base: my - slope*mx, Slope: slope}, nil
}
