# What the scripts share. Sourced by them, with the project's root as the working folder.
# shellcheck shell=bash

# The newest Python is not looked for: the first that fits is taken.
PYTHONS=(python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11)
VENV=.venv

# fail MESSAGE: one line that says what is wrong and what to do; ends the script.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# run_step NAME COMMAND…: run it, showing the last line of its output while it runs, and all of the
# end of it if it fails.
run_step() {
    local name=$1 began=$SECONDS log status=0 took at_interrupt
    shift
    log=$(mktemp)
    # Ctrl-C ends the command as well; that it failed is not what there is to say then.
    at_interrupt=$(trap -p INT)
    trap 'rm -f "$log"; printf "\n%s: interrupted\n" "$name" >&2; exit 130' INT
    if [[ -t 2 ]]; then
        printf '%s: …' "$name" >&2
        "$@" 2>&1 </dev/null | tee "$log" | show_last_line "$name" || status=$?
    else
        printf '%s: …\n' "$name" >&2
        "$@" >"$log" 2>&1 </dev/null || status=$?
    fi
    eval "${at_interrupt:-trap - INT}"
    took=$((SECONDS - began))
    if ((status != 0)); then
        [[ ! -t 2 ]] || printf '\n' >&2
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "$name failed; what it said is above"
    fi
    rm -f "$log"
    if [[ -t 2 ]]; then
        printf '\r\e[K%s: done (%d s)\n' "$name" "$took" >&2
    else
        printf '%s: done (%d s)\n' "$name" "$took" >&2
    fi
}

# show_last_line NAME: each line of standard input in the place of the one before.
show_last_line() {
    local name=$1 line width
    width=$(($(tput cols 2>/dev/null || echo 80) - ${#name} - 4))
    while IFS= read -r line; do
        printf '\r\e[K%s: %s' "$name" "${line:0:width}" >&2
    done
}

on_debian() {
    [[ -r /etc/os-release ]] && grep -Eq '^ID(_LIKE)?=.*debian' /etc/os-release \
        && command -v apt-get >/dev/null
}

# install_debian_packages PACKAGE…: as root. A service that one of them brings along is not started.
install_debian_packages() (
    policy=${POLICY:-/usr/sbin/policy-rc.d}
    if [[ ! -e $policy ]]; then
        # However this ends, the machine's services must be able to start again.
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    # One server of several that is out of order need not matter.
    apt-get update -q || printf 'apt-get update failed; going on with the lists that are there\n'
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
)

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

can_make_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

# find_python: print a Python of 3.11 or newer that can make a virtual environment.
find_python() {
    local python new_enough=''
    for python in "${PYTHONS[@]}"; do
        command -v "$python" >/dev/null && is_new_enough "$python" || continue
        new_enough=${new_enough:-$python}
        if can_make_venv "$python"; then
            printf '%s\n' "$python"
            return
        fi
    done
    [[ -n $new_enough ]] || fail "Python 3.11 or newer is needed: install it (python3) and try again"
    if on_debian && ((EUID == 0)) && is_new_enough /usr/bin/python3; then
        run_step "Installing python3-venv" install_debian_packages python3 python3-venv
        can_make_venv /usr/bin/python3 || fail "python3-venv is installed and does not work"
        printf '%s\n' /usr/bin/python3
        return
    fi
    fail "$new_enough can't make a virtual environment: sudo apt-get install python3-venv"
}

# installed_stamp EXTRAS: what an installation depends on: extras, place, sources; a line each.
installed_stamp() {
    printf '%s\n%s\n' "$1" "$PWD"
    cat pyproject.toml setup.py | sha256sum
}

# ensure_venv [EXTRAS]: the package in $VENV, with the extras (such as "test"), installed so that
# changes of the sources count at once. Quick if nothing that matters has changed.
ensure_venv() {
    local extras=${1:-} stamp=$VENV/installed lock python
    # Two scripts at once: the second waits, and finds everything done. The lock ends with the script.
    exec {lock}<.
    flock "$lock"
    if is_installed "$extras" "$stamp"; then
        exec {lock}<&-
        return
    fi
    if ! [[ -f $stamp && $(sed -n 2p "$stamp") == "$PWD" ]] \
        || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        run_step "Making $VENV with $python" "$python" -m venv --clear "$VENV"
    fi
    rm -f "$stamp"
    run_step "Installing the package" \
        "$VENV/bin/python" -m pip install --no-input --progress-bar off \
        --editable ".${extras:+[$extras]}"
    installed_stamp "$extras" >"$stamp"
    exec {lock}<&-
}

# is_installed EXTRAS STAMP: whether the stamp says so; more extras than asked for are fine.
is_installed() {
    [[ -x $VENV/bin/dit4c && -f $2 ]] || return 1
    local found
    found=$(<"$2")
    [[ $found == "$(installed_stamp "$1")" ]] \
        || [[ -z $1 && $found == "$(installed_stamp "${found%%$'\n'*}")" ]]
}

# What tests and benchmarks need: a program of each Debian package, or another file of it.
declare -A NEEDED=(
    [/usr/lib/nginx/modules/ngx_stream_module.so]=libnginx-mod-stream
    [busybox]=busybox-static
    [caddy]=caddy
    [chromium]=chromium
    [dbclient]=dropbear-bin
    [fio]=fio
    [fusermount3]=fuse3
    [g++]=g++
    [git]=git
    [docker-registry]=docker-registry
    [initdb]=postgresql
    [ip]=iproute2
    [lftp]=lftp
    [make]=make
    [nft]=nftables
    [nginx]=nginx-light
    [podman]=podman
    [npm]=npm
    [rclone]=rclone
    [skopeo]=skopeo
    [ssh]=openssh-client
    [sshd]=openssh-server
    [sshfs]=sshfs
    [wrk]=wrk
)

# What the test extra's pyfuse3 is compiled with.
declare -A NEEDED_TO_COMPILE=(
    [gcc]=gcc
    [pkg-config]=pkg-config
    [/usr/include/fuse3/fuse.h]=libfuse3-dev
    [/usr/include/python3.11/Python.h]=python3-dev
)

# ensure_programs [TABLE]: install the Debian packages of NEEDED, or of another table, that are
# missing.
ensure_programs() {
    local program places missing=()
    local -n table=${1:-NEEDED}
    # The server's programs are in a folder for each version; its cluster is not used.
    places=$(printf '%s:' /usr/sbin /sbin /usr/lib/postgresql/*/bin)
    for program in "${!table[@]}"; do
        [[ -e $program ]] || PATH=$PATH:${places%:} command -v "$program" >/dev/null \
            || missing+=("${table[$program]}")
    done
    ((${#missing[@]})) || return 0
    if on_debian && ((EUID == 0)); then
        run_step "Installing ${missing[*]}" install_debian_packages "${missing[@]}"
    else
        fail "tests and benchmarks need these Debian packages: sudo apt-get install ${missing[*]}"
    fi
}
