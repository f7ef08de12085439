#!/usr/bin/env bash
# Makes the image of nodes and simulator: the binary built on this machine, packed, where it can run in the image; from source otherwise.
#   deploy/image.sh           as above
#   deploy/image.sh source    from source in any case
# BLOX_BINARY: the binary to pack (default: target/release/blox, built if need be). BLOX_IMAGE: the name to give it (default: blox:local).
set -euo pipefail
cd "$(dirname "$0")/.."

glibc_of_image=2.36 # Debian 12
image=${BLOX_IMAGE:-blox:local}

runs_in_image() { # Linux, and a glibc no newer than the image's
  [ "$(uname -s)" = Linux ] || return 1
  [ "$(docker version --format '{{.Server.Arch}}')" = "$(dpkg --print-architecture 2>/dev/null || uname -m)" ] || return 1
  local here
  here=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) || return 1
  [ -n "$here" ] && [ "$(printf '%s\n%s\n' "$here" "$glibc_of_image" | sort -V | head -1)" = "$here" ]
}

deploy/base-image.sh
revision=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
if [ "${1:-}" = source ] || ! runs_in_image; then
  echo "Building the image from source" >&2
  docker build -q -f deploy/Dockerfile --label org.opencontainers.image.revision="$revision" -t "$image" . >/dev/null
else
  binary=${BLOX_BINARY:-}
  if [ -z "$binary" ]; then
    make --no-print-directory build
    binary=target/release/blox
  fi
  docker build -q -f deploy/Dockerfile --target runtime -t blox:runtime . >/dev/null
  context=$(mktemp -d)
  trap 'rm -rf "$context"' EXIT
  install -m 0755 "$binary" "$context/blox"
  # Symbols for backtraces stay in the original.
  if command -v strip >/dev/null; then strip --strip-debug "$context/blox"; fi
  docker build -q -f deploy/Dockerfile.packed --label org.opencontainers.image.revision="$revision" -t "$image" "$context" >/dev/null
fi
docker image inspect -f "$image: {{.Size}} bytes, user {{.Config.User}}" "$image" >&2
