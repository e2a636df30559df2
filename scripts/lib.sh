# What scripts/run and scripts/test share: packages and build folders. Sourced, not run.

BUILD_PACKAGES=(gcc meson ninja-build pkg-config libc6-dev libfuse3-dev fuse3 liblmdb-dev
	libxxhash-dev libjansson-dev libbsd-dev libcurl4-openssl-dev)

# Ends the script with a message.
die()
{
	echo "$(basename "$0"): $*" >&2
	exit 1
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root for: $* (and there is no sudo)"
	fi
}

# need WHY PACKAGE...: installs the Debian packages that are missing.
need()
{
	local why=$1 package missing=()

	shift
	if ! command -v dpkg-query >/dev/null; then
		echo "Not a Debian system; these packages' counterparts must be there: $*" >&2
		return
	fi
	for package; do
		case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
		installed) ;;
		*) missing+=("$package") ;;
		esac
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "Installing ${missing[*]} ($why)"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		install "${missing[@]}" >/dev/null
}

# build FOLDER OPTION...: configures the folder where that has not been done, and builds it.
build()
{
	local folder=$1

	shift
	[ -f "$folder/build.ninja" ] || meson setup "$folder" "$@"
	ninja -C "$folder"
}
