#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks, by apt where that is allowed; otherwise prints the exact command.
#   scripts/prerequisites.sh          what the build needs
#   scripts/prerequisites.sh test     what the tests need besides
#   scripts/prerequisites.sh failover what `make failover` needs besides
#   scripts/prerequisites.sh bench    what `make bench` needs besides: the peer
set -euo pipefail

missing=()
need() { # need PACKAGE CHECK...: the package, unless the check succeeds
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
installed() { dpkg -s "$1" 2>/dev/null | grep -q '^Status: install ok installed'; }
# bindgen loads libclang and reads clang's own headers.
any_of() { local pattern; for pattern in "$@"; do compgen -G "$pattern" >/dev/null && return; done; return 1; }
# The names bindgen looks for; libclang-cpp is another library.
libclang() {
  any_of '/usr/lib/llvm-*/lib/libclang'{,-[0-9]*}.so* '/usr/lib/*/libclang'{,-[0-9]*}.so* || [ -n "${LIBCLANG_PATH:-}" ]
}
clang_headers() { any_of '/usr/lib/llvm-*/lib/clang/*/include/stdbool.h' '/usr/lib/clang/*/include/stdbool.h'; }

need g++ command -v c++
need make command -v make
need libclang1-14 libclang
need libclang-common-14-dev clang_headers
if [ "${1:-}" = test ]; then
  need python3-venv python3 -c 'import ensurepip, venv'
  need procps command -v ps
  # Partitions between nodes; they need root, and are skipped by name without it.
  need iproute2 any_of /{usr/,}{s,}bin/ip
  need iptables any_of /{usr/,}{s,}bin/iptables
  need strace command -v strace
  need curl command -v curl
fi
may_install() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
# Clocks that jump. Without it those faults are skipped by name.
if [ "${1:-}" = test ] || [ "${1:-}" = failover ]; then
  if may_install; then need libfaketime installed libfaketime; fi
fi
if [ "${1:-}" = failover ]; then
  need iptables any_of /{usr/,}{s,}bin/iptables
  need iproute2 any_of /{usr/,}{s,}bin/ip
  # A convenience: see fetch_boto3.
  if may_install; then need python3-venv python3 -c 'import ensurepip, venv'; fi
fi

# Checks Prometheus' rules. Its package would start a server, so only the tool is taken out of it. A convenience: without it its test is skipped
# by name.
fetch_promtool() {
  local folder=${BLOX_CACHE:-$HOME/.cache/blox}/promtool
  if command -v promtool >/dev/null || [ -x "$folder/promtool" ]; then return; fi
  if ! command -v dpkg-deb >/dev/null; then return; fi
  mkdir -p "$folder"
  local work
  work=$(mktemp -d)
  echo "Fetching promtool into $folder (20 MB)" >&2
  if (cd "$work" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1; then
    mv "$work/usr/bin/promtool" "$folder/promtool"
  else
    echo "promtool cannot be had here: the test of the alert rules is skipped" >&2
  fi
  rm -rf "$work"
}

# The peer of `make bench`. Its package would start a server, so only the program is taken out of it.
fetch_etcd() {
  local folder=${BLOX_CACHE:-$HOME/.cache/blox}/etcd
  if [ -n "${ETCD:-}" ] || command -v etcd >/dev/null || [ -x "$folder/etcd" ]; then return; fi
  local work
  work=$(mktemp -d)
  mkdir -p "$folder"
  echo "Fetching etcd into $folder (20 MB)" >&2
  # The lists of packages may be fresh already, and fetching them anew needs root.
  (apt-get update -qq || true) >/dev/null 2>&1
  if (cd "$work" && apt-get download -qq etcd-server && dpkg-deb -x etcd-server_*.deb .) >/dev/null; then
    mv "$work/usr/bin/etcd" "$folder/etcd"
  fi
  rm -rf "$work"
  if [ ! -x "$folder/etcd" ]; then
    echo "etcd is needed, and cannot be had here: install etcd-server, or name a program by ETCD=/path/to/etcd" >&2
    exit 1
  fi
}

# The example scheduler needs it: in an environment made once a machine, unless moto's of the node's tests is there, which has it, or the machine's
# own Python does. A convenience: without it the story of failover leaves that scheduler out, and says so.
fetch_boto3() {
  local cache=${BLOX_CACHE:-$HOME/.cache/blox} version=1.43.11
  if any_of "$cache"/{moto,boto3}-*/complete || python3 -c 'import boto3' 2>/dev/null; then return; fi
  local folder=$cache/boto3-$version
  echo "Fetching boto3 into $folder (60 MB)" >&2
  rm -rf "$folder"
  mkdir -p "$cache"
  if python3 -m venv "$folder" >/dev/null && timeout 120 "$folder/bin/pip" install --quiet "boto3==$version"; then
    touch "$folder/complete"
  else
    rm -rf "$folder"
    echo "boto3 cannot be had here: the story of failover leaves the example scheduler out" >&2
  fi
}

# The short story of failover and the selection of failure tests run in containers. What they are made of is made here, so that the tests do not wait
# for it; where that cannot be, they are skipped by their names.
make_images() {
  local why="" said=""
  if [ "${BLOX_FAILOVER_TEST:-}" = 0 ] && [ "${BLOX_JEPSEN_TEST:-}" = 0 ]; then return; fi
  if ! timeout 10 docker info >/dev/null 2>&1; then
    why="no Docker answers"
  elif ! docker compose version >/dev/null 2>&1 && ! docker-compose version >/dev/null 2>&1; then
    why="there is no Docker Compose"
  elif ! timeout 300 deploy/base-image.sh; then
    why="debian:bookworm-slim cannot be had"
  elif ! said=$(timeout 300 docker build -q -f deploy/Dockerfile --target runtime -t blox:runtime . 2>&1); then
    why="what nodes run in cannot be built ($(tail -1 <<<"$said"))"
  fi
  if [ -n "$why" ]; then echo "The short story of failover and the selection of failure tests are skipped: $why" >&2; fi
}

if ! command -v cargo >/dev/null 2>&1; then
  echo "A Rust toolchain (1.95 or newer) is needed: https://rustup.rs" >&2
  exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
  install="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo "; else run=none; fi
  if [ "$run" = none ] || ! command -v apt-get >/dev/null 2>&1; then
    printf 'Missing: %s\nInstall it with:\n  sudo apt-get update && sudo %s\n' "${missing[*]}" "$install" >&2
    exit 1
  fi
  echo "Installing ${missing[*]}" >&2
  ${run}apt-get update -qq
  DEBIAN_FRONTEND=noninteractive ${run}$install -qq >/dev/null
fi
if [ "${1:-}" = test ]; then
  fetch_promtool
  fetch_boto3
  make_images
fi
if [ "${1:-}" = failover ]; then fetch_boto3; fi
if [ "${1:-}" = bench ]; then fetch_etcd; fi
