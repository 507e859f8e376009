package master

import (
	"path/filepath"
	"strings"

	"posthaste/internal/config"
)

// tableSuffixes are what indexed tables add to the name in the configuration.
var tableSuffixes = []string{"", ".db", ".cdb", ".lmdb", ".dir", ".pag", ".sdbm"}

// mentioned reports whether main.cf or master.cf name a file, itself or as a
// table: only such files are opened on behalf of the mail process.
func mentioned(snap *config.Snapshot, path string) bool {
	if path != filepath.Clean(path) || !filepath.IsAbs(path) {
		return false
	}
	for _, suffix := range tableSuffixes {
		if bare, ok := strings.CutSuffix(path, suffix); ok && named(snap, bare) {
			return true
		}
	}
	return false
}

// named looks for a whole path in the values of all settings.
func named(snap *config.Snapshot, path string) bool {
	for _, s := range snap.MainFile().Settings {
		value, err := snap.Main().String(s.Name)
		if err == nil && hasPath(value, path) {
			return true
		}
	}
	for _, service := range snap.Services() {
		view, err := snap.Service(service)
		if err != nil {
			continue
		}
		for _, o := range service.Options {
			if value, err := view.String(o.Name); err == nil && hasPath(value, path) {
				return true
			}
		}
	}
	return false
}

// hasPath finds path in value as a word, behind "type:" or alone.
func hasPath(value, path string) bool {
	for at := 0; ; {
		i := strings.Index(value[at:], path)
		if i < 0 {
			return false
		}
		start, end := at+i, at+i+len(path)
		if (start == 0 || strings.ContainsRune(" \t\n,:{=", rune(value[start-1]))) &&
			(end == len(value) || strings.ContainsRune(" \t\n,}", rune(value[end]))) {
			return true
		}
		at = end
	}
}

// allowedPrefix reports whether path starts with one of the listed prefixes.
func allowedPrefix(path, prefixes string) bool {
	for _, p := range config.SplitWords(prefixes) {
		if path == p || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}
