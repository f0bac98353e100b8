#!/usr/bin/env bash
# What callers get, and how fast, while the provider does something with its keys; what a fleet asks of its provider under a flood;
# and what callers get while a new fleet of our issuer takes over from the old one: two and a half minutes. `--quick`: the same rules
# in three quarters of a minute. Fails if one of them is broken. FAILURES.md has the tables.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --release -p countersign-tests --bin load -- "$@"
