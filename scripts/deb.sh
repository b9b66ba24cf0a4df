#!/bin/sh
# Makes a Debian package of what is compiled, its dependencies included, in the folder that is named, or in this one. It depends on Debian's nodejs.
set -eu
here=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
to=$(readlink -f -- "${1:-.}")
command -v dpkg-deb >/dev/null || {
	echo "deb: dpkg-deb is missing: apt-get install dpkg" >&2
	exit 1
}
"$here/scripts/build.sh"
node "$here/scripts/shell-files.mjs"
version=$(node -p 'require(process.argv[1]).version' "$here/package.json")
architecture=$(dpkg --print-architecture)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

program=$tree/usr/lib/holdfast
documents=$tree/usr/share/doc/holdfast
mkdir -p "$program/dist" "$program/node_modules/@koromix" "$documents" "$tree/usr/bin" "$tree/lib/systemd/system" "$tree/DEBIAN"
mkdir -m 700 -p "$tree/etc/holdfast"
cp "$here/holdfast" "$here/package.json" "$program"
cp -R "$here/dist/holdfast.js" "$here/dist/bundled" "$program/dist"
cp -R "$here/node_modules/commander" "$here/node_modules/ignore" "$program/node_modules"
# koffi without its sources; what it calls is in @koromix
mkdir -p "$program/node_modules/koffi"
(cd "$here/node_modules/koffi" && cp package.json LICENSE.txt "$program/node_modules/koffi" &&
	find . -name '*.js' -o -name '*.cjs' | grep -v '^\./\(vendor\|cnoke\)' | xargs cp --parents -t "$program/node_modules/koffi")
for binary in "$here"/node_modules/@koromix/koffi-linux-*; do
	cp -R "$binary" "$program/node_modules/@koromix"
	rm -rf "$program/node_modules/@koromix/${binary##*/}"/musl_*
done
install -D -m 644 -t "$tree/usr/share/man/man1" "$here"/dist/man/*.1
gzip -9n "$tree"/usr/share/man/man1/*.1
install -D -m 644 -t "$tree/usr/share/bash-completion/completions" "$here/dist/completion/holdfast"
install -D -m 644 -t "$tree/usr/share/zsh/vendor-completions" "$here/dist/completion/_holdfast"
install -D -m 644 -t "$tree/usr/share/fish/vendor_completions.d" "$here/dist/completion/holdfast.fish"
ln -s ../lib/holdfast/holdfast "$tree/usr/bin/holdfast"
cp "$here/packaging/holdfast@.service" "$tree/lib/systemd/system"
cp "$here/README.md" "$here"/docs/*.md "$documents"
cp "$here/LICENSE" "$documents/copyright"
gzip -9nc "$here/CHANGELOG.md" >"$documents/changelog.gz"

cat >"$tree/DEBIAN/control" <<CONTROL
Package: holdfast
Version: $version
Architecture: $architecture
Maintainer: The authors of holdfast <holdfast@localhost>
Depends: nodejs (>= 20.19), libc6 (>= 2.28)
Recommends: nfs-common
Section: net
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f1)
Description: overlay filesystem served over NFS, whose file handles hold
 Holdfast puts a writable layer over read-only trees and serves the result
 over NFSv4.1 and NFSv3, from user space, in the format of Linux overlayfs.
CONTROL
for script in postinst postrm; do
	printf '#!/bin/sh\nset -e\n[ ! -d /run/systemd/system ] || systemctl daemon-reload || true\n' >"$tree/DEBIAN/$script"
	chmod 755 "$tree/DEBIAN/$script"
done
chmod -R go+rX,go-w "$tree/usr" "$tree/lib"
dpkg-deb --root-owner-group --build "$tree" "$to/holdfast_${version}_$architecture.deb"
