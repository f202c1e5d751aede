# Sourced by arm64_root, arm64_device and arm64_phone: Debian's arm64 packages and wheels in a folder, on a machine of any kind.

release=bookworm

note() {
    echo "$(basename "$0"): $*" >&2
}

# tools LOG PURPOSE PACKAGE...: packages that the machine itself needs.
tools() {
    local log=$1 purpose=$2
    shift 2
    command -v apt-get >/dev/null || die "needs Debian's apt-get; elsewhere make the folder on a Debian 12 and copy it"
    [ "$(id -u)" = 0 ] || die "needs root once, to install $purpose: sudo apt-get install $*"
    note "installing $*"
    (apt-get update && apt-get install -y --no-install-recommends "$@") >"$log" 2>&1 </dev/null ||
        { tail -n 5 "$log" >&2 && die "$purpose cannot be installed"; }
}

# unpacked WORK ROOT PACKAGE...: the packages with all they depend on. apt gets a state of its own, in which nothing is
# installed and everything is arm64, so the machine's own packages are neither asked nor touched and no root is needed.
unpacked() {
    local work=$1 new=$2 mirror name
    shift 2
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' "Codename: $release" 2>/dev/null |
        head -n 1)
    [ -n "$mirror" ] || die "apt knows no Debian $release here; elsewhere make the folder on a Debian 12 and copy it"
    mkdir -p "$work/none" "$work/state/lists/partial" "$work/cache/archives/partial"
    touch "$work/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror \
$release main" >"$work/sources.list"
    local apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
        -o Acquire::Languages=none -o Dir::State="$work/state" -o Dir::State::status="$work/status"
        -o Dir::Cache="$work/cache" -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/none"
        -o Dir::Etc::preferencesparts="$work/none" -o Debug::NoLocking=1)
    "${apt[@]}" update >&2 || die "no package lists; the lines above say why"
    "${apt[@]}" install -y --no-install-recommends --download-only "$@" >&2 </dev/null ||
        die "the arm64 packages cannot be downloaded; the lines above say why"
    for name in bin lib sbin; do
        mkdir -p "$new/usr/$name"
        ln -s "usr/$name" "$new/$name"
    done
    for name in "$work"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$name" | tar -x --keep-directory-symlink -C "$new"
    done
    rm -rf "$new"/usr/share/{doc,man,locale,lintian}
}

# wheels WORK install|download ARGUMENT...: the machine's own pip, for Python 3.11 on arm64.
wheels() {
    local work=$1 verb=$2 tags=() tag pip=$root/.venv/bin/python
    shift 2
    if [ ! -x "$pip" ]; then
        pip=$work/venv/bin/python
        [ -x "$pip" ] || "$(python_at_least 11)" -m venv "$work/venv" >&2 ||
            die "no virtual environment: apt-get install python3-venv"
    fi
    for tag in 2_17 2_27 2_28 2_31 2_34; do
        tags+=(--platform "manylinux_${tag}_aarch64")
    done
    (cd "$root" && "$pip" -m pip "$verb" -qq --disable-pip-version-check --only-binary=:all: --implementation cp \
        --python-version 3.11 "${tags[@]}" --platform manylinux2014_aarch64 "$@" >&2) ||
        die "no wheels for arm64; the lines above say why. Without a network nothing can be installed"
}

# replaceable FOLDER: stops where the folder is not one that the script made.
replaceable() {
    [ ! -e "$1" ] || [ -e "$1/stamp" ] || die "$1 is there and was not made by this script; name another"
}

binfmt=/proc/sys/fs/binfmt_misc

# chroots LOG: arm64 programs run on this machine as its own do. The registration is gone after a restart; F: QEMU is
# opened now, so that a chroot needs no copy of it.
chroots() {
    [ "$(id -u)" = 0 ] || die "needs root, for chroot and binfmt_misc: sudo scripts/$(basename "$0")"
    if ! command -v qemu-aarch64-static >/dev/null || [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        tools "$1" QEMU qemu-user-static debian-archive-keyring
    fi
    [ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt 2>/dev/null ||
        die "this kernel has no binfmt_misc: arm64 programs cannot run in a chroot here"
    [ -e $binfmt/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf >$binfmt/register ||
        die "QEMU cannot be registered in $binfmt"
    grep -q '^flags:.*F' $binfmt/qemu-aarch64 ||
        die "qemu-aarch64 is registered without the flag F: echo -1 >$binfmt/qemu-aarch64, then run this again"
}

# put FILE TEXT: one file of /sys.
put() {
    mkdir -p "$(dirname "$1")"
    echo "$2" >"$1"
}
