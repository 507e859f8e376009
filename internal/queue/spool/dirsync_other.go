//go:build !linux

package spool

// NeedsDirSync reports whether Options.SyncDirs should be set for a directory.
func NeedsDirSync(string) bool { return true }
