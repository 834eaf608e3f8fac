# shellcheck shell=bash
# Shared by the scripts: finds what they need, and installs it if the installation asks no questions.
# Source this file; it changes to the repository's folder.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

say() { printf '%s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

need_cargo() {
    have cargo || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    have cargo || die "Rust is missing. Install it (https://rustup.rs):
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

# Prints the folder of the newest PostgreSQL, 15 or newer. Looks in the same places as crates/embedded-postgres/src/locate.rs.
postgres_bin() {
    local bin version newest=14 found=
    # PG_BIN excludes all others.
    if [ -n "${PG_BIN:-}" ]; then
        set -- "$PG_BIN"
    else
        set -- "$(pg_config --bindir 2>/dev/null || true)" \
            "$(dirname "$(command -v postgres || echo /usr/bin/postgres)")" \
            /usr/lib/postgresql/*/bin /usr/libexec/postgresql* /usr/pgsql-*/bin \
            /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
            /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin \
            /Applications/Postgres.app/Contents/Versions/*/bin
    fi
    for bin in "$@"; do
        [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ] && [ -x "$bin/psql" ] || continue
        version=$("$bin/postgres" --version | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
        if [ "${version:-0}" -gt "$newest" ]; then newest=$version found=$bin; fi
    done
    [ -n "$found" ] && printf '%s\n' "$found"
}

# Runs a command as root if that needs no password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        have sudo && sudo -n true 2>/dev/null && sudo -n "$@"
    fi
}

apt_updated=
apt_install() {
    have apt-get || return 1
    [ -n "$apt_updated" ] || as_root apt-get update -qq >&2 || return 1
    apt_updated=yes
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Debian's package would create and start a server; we want the programs only.
apt_install_postgres() {
    local conf=/etc/postgresql-common/createcluster.conf done=0
    apt_install postgresql-common || return 1
    as_root cp -p "$conf" "$conf.before" || return 1
    as_root sh -c "echo 'create_main_cluster = false' >>$conf"
    apt_install postgresql || done=1
    as_root mv "$conf.before" "$conf"
    return "$done"
}

ensure_postgres() {
    if postgres_bin >/dev/null; then return; fi
    [ -z "${PG_BIN:-}" ] || die "PG_BIN=$PG_BIN has no PostgreSQL 15 or newer: correct or unset it."
    say "Installing PostgreSQL, which is missing."
    if [ "$(uname)" = Darwin ] && have brew; then
        brew install postgresql@17 >&2 || true
    else
        apt_install_postgres || true
    fi
    postgres_bin >/dev/null || die "PostgreSQL 15 or newer is missing. Install it, then run this again:
  Debian, Ubuntu   sudo apt-get install postgresql
                   (if that is older: sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y
                    and sudo apt-get install postgresql-17)
  Fedora           sudo dnf install postgresql-server
  Alpine           apk add postgresql
  macOS            brew install postgresql@17"
}

# Installs Debian's package of this name without its service: Debian would start the service now, and again at each boot.
# The service may be named otherwise (second argument).
apt_install_program() {
    local policy=/usr/sbin/policy-rc.d done=0
    if [ -e "$policy" ]; then
        policy=
    else
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy" || return 1
    fi
    apt_install "$1" || done=1
    [ -z "$policy" ] || as_root rm "$policy"
    [ "$done" -ne 0 ] || as_root update-rc.d "${2:-$1}" disable >&2 || true
    return "$done"
}

# Debian may put the program into a folder that only root has on PATH.
have_server() { have "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/usr/local/sbin/$1" ]; }

ensure_server() {
    if have_server "$1"; then return; fi
    say "$2 need $1; installing it."
    if [ "$(uname)" = Darwin ] && have brew; then brew install "$1" >&2 || true; else apt_install_program "$1" || true; fi
    have_server "$1" || die "$1 is missing. Install it (Debian, Ubuntu: sudo apt-get install $1), then run this again."
}

have_patroni() { have etcd && have patroni && have patronictl; }

# Debian's package of Patroni brings the client of etcd; without a configuration its service does nothing.
ensure_patroni() {
    if have_patroni; then return; fi
    say "The tests of high availability need Patroni and etcd; installing them."
    if [ "$(uname)" = Darwin ] && have brew; then
        brew install etcd patroni >&2 || true
    else
        have etcd || apt_install_program etcd-server etcd || true
        have patroni || apt_install_program patroni || true
    fi
    have_patroni || die "Patroni or etcd is missing. Install them (Debian, Ubuntu: sudo apt-get install patroni etcd-server), then run this again."
}

have_prometheus() { have prometheus && have promtool; }

ensure_prometheus() {
    if have_prometheus; then return; fi
    say "The tests of the alert rules need prometheus and promtool; installing them."
    if [ "$(uname)" = Darwin ] && have brew; then brew install prometheus >&2 || true; else apt_install_program prometheus || true; fi
    have_prometheus || die "prometheus or promtool is missing. Install them (Debian, Ubuntu: sudo apt-get install prometheus), then run this again."
}

# Installs the package of the same name.
ensure_tool() {
    if have "$1"; then return; fi
    say "$2 need $1; installing it."
    if [ "$(uname)" = Darwin ] && have brew; then brew install "$1" >&2 || true; else apt_install "$1" || true; fi
    have "$1" || die "$1 is missing. Install it (Debian, Ubuntu: sudo apt-get install $1), then run this again."
}

have_browser() {
    have chromedriver || return 1
    have chromium || have chromium-browser || have google-chrome ||
        [ -d "/Applications/Chromium.app" ] || [ -d "/Applications/Google Chrome.app" ]
}

ensure_browser() {
    if have_browser; then return; fi
    say "The tests of the page need Chromium and its driver; installing them."
    if [ "$(uname)" = Darwin ] && have brew; then
        brew install --cask chromium chromedriver >&2 || true
    else
        apt_install chromium chromium-driver || true
    fi
    have_browser || die "Chromium and chromedriver are missing. Install them, then run this again:
  Debian           sudo apt-get install chromium chromium-driver
  Ubuntu           sudo snap install chromium, then put chromium.chromedriver on PATH as chromedriver
  Fedora           sudo dnf install chromium chromedriver
  Alpine           apk add chromium chromium-chromedriver
  macOS            brew install --cask chromium chromedriver"
}

# axe-core, which checks the page's accessibility, comes from the npm registry; so do Express and what builds the client.
ensure_npm() {
    if have npm; then return; fi
    say "npm is missing; installing it."
    if [ "$(uname)" = Darwin ] && have brew; then brew install node >&2 || true; else apt_install npm || true; fi
    have npm || die "npm is missing. Install Node.js with npm (Debian, Ubuntu: sudo apt-get install npm), then run this again."
}

# The TypeScript client is built with Vite, which needs this version. Debian has it from 13 on.
ensure_node() {
    ensure_npm
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' ||
        die "Node.js $(node --version) is too old for the TypeScript client. Install 20.19 or newer (https://nodejs.org), then run this again."
}

ensure_wrk() {
    if have wrk; then return; fi
    say "The benchmark needs wrk; installing it."
    if [ "$(uname)" = Darwin ] && have brew; then brew install wrk >&2 || true; else apt_install wrk || true; fi
    have wrk || die "wrk is missing. Install it (Debian, Ubuntu: sudo apt-get install wrk), then run this again."
}

# A program or library of PyPI, of exactly this version, in a virtual environment under target/.
ensure_python_tool() {
    local venv=target/$1-$2
    if [ -e "$venv/.installed" ]; then return; fi
    ensure_venv "$3"
    say "$3 need $1; installing it under target/."
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "$1==$2" && touch "$venv/.installed" ||
        die "$1 could not be installed. Look whether pip reaches its index, then run this again."
}

have_venv() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

ensure_venv() {
    if have_venv; then return; fi
    say "${1:-The benchmarks} need Python with venv; installing it."
    if [ "$(uname)" = Darwin ] && have brew; then brew install python >&2 || true; else apt_install python3-venv || true; fi
    have_venv || die "Python 3 with venv is missing. Install it (Debian, Ubuntu: sudo apt-get install python3-venv), then run this again."
}

# The tests of wrong clocks run on Linux only. The package's library may be anywhere; the program is on PATH.
ensure_faketime() {
    if [ "$(uname)" != Linux ] || have faketime; then return; fi
    say "The tests of wrong clocks need libfaketime; installing it."
    apt_install faketime || true
    have faketime || die "libfaketime is missing. Install it (Debian, Ubuntu: sudo apt-get install faketime; Fedora: sudo dnf install libfaketime), then run this again."
}

# The test of the Kubernetes manifests runs the binary in a separate network, on Linux only.
ensure_iproute() {
    if [ "$(uname)" != Linux ] || have_server ip; then return; fi
    say "The tests of the Kubernetes manifests need ip; installing it."
    apt_install iproute2 || true
    have_server ip || die "ip is missing. Install it (Debian, Ubuntu: sudo apt-get install iproute2), then run this again."
}

# PostgreSQL refuses to run as root.
as_server() {
    if [ "$(id -u)" -ne 0 ]; then "$@"; else runuser -u "$server" -- "$@"; fi
}

# Starts a PostgreSQL of its own, with its socket in the folder $work and its programs in $bin, that keeps nothing.
start_throwaway_postgres() {
    bin=$(postgres_bin)
    if id postgres >/dev/null 2>&1; then server=postgres; else server=nobody; fi
    # In /tmp itself: the path of a socket must be short, and the server's user must have access.
    work=$(mktemp -d /tmp/esim-status.XXXXXX)
    if [ "$(id -u)" -eq 0 ]; then chown "$server" "$work"; fi
    (
        cd "$work"
        as_server "$bin/initdb" -D data -U esim_status -A trust -E UTF8 --no-locale --no-sync >/dev/null
        as_server "$bin/pg_ctl" -D data -l log -w -o "-c fsync=off -c listen_addresses= -k $work -p 5432" start \
            >/dev/null || { cat log >&2; exit 1; }
    )
}

stop_throwaway_postgres() {
    [ -n "${work:-}" ] || return 0
    as_server "$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
