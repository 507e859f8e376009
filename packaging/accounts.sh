#!/bin/sh
# Makes the accounts that Postfix has, and the set-gid postdrop. Called by
# "make install" with DESTDIR and sbindir; only warns where it may not.
destdir=$1 sbindir=$2
if [ "$(id -u)" -ne 0 ]; then
	echo "not root: run 'postfix set-permissions' as root, and make postdrop set-gid postdrop" >&2
	exit 0
fi
have_group() { grep -q "^$1:" "$destdir/etc/group" 2>/dev/null; }
have_user() { grep -q "^$1:" "$destdir/etc/passwd" 2>/dev/null; }
if command -v groupadd >/dev/null 2>&1 && [ -f "$destdir/etc/group" ]; then
	root=${destdir:+-R $destdir}
	have_group postfix || groupadd $root --system postfix
	have_group postdrop || groupadd $root --system postdrop
	have_user postfix || useradd $root --system --gid postfix --home-dir /var/spool/postfix --no-create-home --shell /usr/sbin/nologin postfix
elif command -v pw >/dev/null 2>&1; then
	root=${destdir:+-R $destdir}
	pw $root groupshow postfix >/dev/null 2>&1 || pw $root groupadd postfix
	pw $root groupshow postdrop >/dev/null 2>&1 || pw $root groupadd postdrop
	pw $root usershow postfix >/dev/null 2>&1 || pw $root useradd postfix -g postfix -d /var/spool/postfix -s /usr/sbin/nologin
fi
gid=$(awk -F: '$1 == "postdrop" { print $3 }' "$destdir/etc/group")
if [ -n "$gid" ]; then
	chown "root:$gid" "$destdir$sbindir/postdrop"
	chmod 2755 "$destdir$sbindir/postdrop"
else
	echo "no group postdrop in $destdir/etc/group: make $sbindir/postdrop set-gid yourself" >&2
fi
