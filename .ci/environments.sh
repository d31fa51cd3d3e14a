# What the scripts beside this file share: to be sourced.

# Prints the way to a Python of this version, if this machine has one.
find_python() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c 'import sys, venv, ensurepip
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$1" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
}

# Makes an environment for the tests, unless it is there and newer than what it is made from:
# make_environment FOLDER PYTHON [OPTION OF PIP…]
make_environment() {
    local folder=$1 python=$2
    shift 2
    if [ "$folder/.installed" -nt pyproject.toml ] && [ "$folder/.installed" -nt constraints.txt ]; then
        return
    fi
    "$python" -m venv "$folder"
    .ci/install "$folder/bin/python" --constraint constraints.txt "$@" --editable '.[test]'
    touch "$folder/.installed"
}
