# Sourced by the scripts beside it: makes virtual environments, once, and again only when what goes into them changes.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# python_at_least MINOR: the first Python 3 on the machine that is at least 3.MINOR.
python_at_least() {
    local name
    for name in python3 python3.11 python3.12 python3.13 python3.14; do
        if "$name" -c "import sys; sys.exit(sys.version_info < (3, $1))" 2>/dev/null; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    die "needs Python 3.$1 or newer, found $(python3 --version 2>/dev/null || echo no python3)"
}

# python_exactly 3.MINOR: that Python from PATH or pyenv; fails where there is none.
python_exactly() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

# environment FOLDER PYTHON REQUIREMENT...: a virtual environment with these requirements. The stamp in it holds a hash
# of what went in, followed by the requirements. The last bracket is not compared, so that an environment with
# .[host,test] does for .[host] too. Installing edgeprune builds its kernels, so their sources count.
environment() {
    local folder=$1 python=$2 stamp kernels=$root/edgeprune/kernels
    shift 2
    stamp="$({
        cat "$root/pyproject.toml" "$root/constraints.txt" <(echo "$root")
        cat "$root/hatch_build.py" "$kernels/build.py" "$kernels"/src/* 2>/dev/null
    } | sha256sum | cut -c1-16) $*"
    if [ -x "$folder/bin/python" ] && "$folder/bin/python" -c '' 2>/dev/null &&
        [[ "$(cat "$folder/stamp" 2>/dev/null)" == "${stamp%]}"* ]]; then
        return
    fi
    echo "$(basename "$0"): installing into ${folder#"$root"/} (takes minutes the first time): $*" >&2
    if ! "$folder/bin/python" -c '' 2>/dev/null; then
        "$python" -m venv --clear "$folder" >&2 ||
            die "$python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    rm -f "$folder/stamp"
    (cd "$root" && "$folder/bin/python" -m pip install -qq --disable-pip-version-check "$@") ||
        die "installing failed; the lines above say why. Without a network nothing can be installed"
    echo "$stamp" >"$folder/stamp"
}
