#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks, by apt where that is allowed; otherwise prints the exact command.
#   scripts/prerequisites.sh          what the build needs
#   scripts/prerequisites.sh test     what the tests need besides
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
libclang() { any_of '/usr/lib/llvm-*/lib/libclang*.so*' '/usr/lib/*/libclang*.so*' || [ -n "${LIBCLANG_PATH:-}" ]; }
clang_headers() { any_of '/usr/lib/llvm-*/lib/clang/*/include/stdbool.h' '/usr/lib/clang/*/include/stdbool.h'; }

need g++ command -v c++
need make command -v make
need libclang1-14 libclang
need libclang-common-14-dev clang_headers
if [ "${1:-}" = test ]; then
  need python3-venv python3 -c 'import ensurepip, venv'
  need procps command -v ps
fi

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
