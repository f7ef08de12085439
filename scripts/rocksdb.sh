#!/usr/bin/env bash
# Compiles RocksDB's static archive once a machine and keeps it outside the checkout, so that every profile and every clean checkout reuses it.
#   scripts/rocksdb.sh path    prints the folder that holds (or will hold) librocksdb.a
#   scripts/rocksdb.sh build   compiles it there unless it is there already
# BLOX_CACHE: where to keep it (default: ~/.cache/blox).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p;}' "$root/Cargo.lock")
case $(uname -m) in
  x86_64) target_cpu=x86-64-v2 ;; # the same as in .cargo/config.toml
  *) target_cpu=$(uname -m) ;;
esac
cache=${BLOX_CACHE:-$HOME/.cache/blox}
folder=$cache/rocksdb/${version/+/-}-$target_cpu-lz4
archive=$folder/librocksdb.a
files_total=343 # of RocksDB 11.8.1, for the progress line only

progress() {
  while sleep 15; do
    count=$(find "$1" -name '*.o' 2>/dev/null | wc -l)
    echo "  RocksDB: about $count of $files_total files compiled" >&2
  done
}

build() {
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  flock 9
  [ -f "$archive" ] && return
  echo "Compiling RocksDB $version, once for this machine: 15 to 20 minutes on two cores. Kept in $folder" >&2
  work=$cache/rocksdb-build
  progress "$work" & watcher=$!
  trap 'kill "$watcher" 2>/dev/null || true' EXIT
  (cd "$root" && env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC cargo build --locked --quiet -p librocksdb-sys --profile native --target-dir "$work")
  built=$(find "$work" -name librocksdb.a -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2-)
  cp "$built" "$archive.new"
  mv "$archive.new" "$archive" # whole or not there
  rm -rf "$work"
  echo "RocksDB is compiled." >&2
}

case ${1:-} in
  path) echo "$folder" ;;
  build) build ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
