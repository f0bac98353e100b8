#!/usr/bin/env bash
# What callers get, and how fast, while the provider does something with its keys, and what a fleet asks of its provider under a
# flood: two minutes. `--quick`: the same rules in a quarter of a minute. Fails if one of them is broken. FAILURES.md has the tables.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --release -p countersign-tests --bin load -- "$@"
