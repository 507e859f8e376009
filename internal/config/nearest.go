package config

// nearest is the known parameter that differs least from name: by letters
// inserted, left out, replaced or swapped. It is "" when none is close.
func (s *Snapshot) nearest(name string) string {
	limit := 1 + len(name)/8
	best, at := "", limit+1
	for _, list := range [][]string{s.catalogue.Names(), s.catalogue.Own(), s.ServiceParams()} {
		for _, known := range list {
			if d := distance(name, known, at); d < at || d == at && d <= limit && known < best {
				best, at = known, d
			}
		}
	}
	return best
}

// distance counts edits between two names, swaps of neighbours included; it
// may stop at limit.
func distance(a, b string, limit int) int {
	if diff := len(a) - len(b); diff > limit || -diff > limit {
		return limit + 1
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
