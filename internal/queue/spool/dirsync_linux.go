package spool

import "golang.org/x/sys/unix"

// NeedsDirSync reports whether Options.SyncDirs should be set for a directory:
// true unless its file system is known to keep the name of a new file when
// the file is synced (ext4, XFS, Btrfs, and memory where nothing lasts).
func NeedsDirSync(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return true
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return false
	}
	return true
}
