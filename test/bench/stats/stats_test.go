package stats

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{1, 2}, 1.5}, {[]float64{1, 2, 9}, 2}, {[]float64{1, 2, 4, 9}, 3}} {
		if got := Median(tc.values); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.values, got, tc.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, tc := range []struct {
		x, y []float64
		want Line
	}{
		{[]float64{0, 25, 50}, []float64{300, 350, 400}, Line{300, 2}},
		// By hand: mean 2 and 3, Sxx 8, Sxy 4; the points lie on no line.
		{[]float64{0, 2, 4}, []float64{3, 1, 5}, Line{2, 0.5}},
		{[]float64{1, 3}, []float64{5, 5}, Line{5, 0}},
	} {
		got, err := Fit(tc.x, tc.y)
		if err != nil || math.Abs(got.Base-tc.want.Base) > 1e-9 || math.Abs(got.Slope-tc.want.Slope) > 1e-9 {
			t.Errorf("%v, %v: %+v, %v, want %+v", tc.x, tc.y, got, err, tc.want)
		}
	}
	for _, tc := range []struct{ x, y []float64 }{
		{nil, nil}, {[]float64{1}, []float64{1}}, {[]float64{2, 2}, []float64{1, 3}}, {[]float64{1, 2}, []float64{1}},
	} {
		if got, err := Fit(tc.x, tc.y); err == nil {
			t.Errorf("%v, %v: %+v, want an error", tc.x, tc.y, got)
		}
	}
}
