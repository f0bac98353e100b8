#!/usr/bin/env bash
# The whole differential comparison with jsonwebtoken: a million mutants per algorithm (CI runs a share of it).
# COUNTERSIGN_MUTANTS changes the number. Takes about ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
COUNTERSIGN_MUTANTS="${COUNTERSIGN_MUTANTS:-1000000}" cargo test --release -p countersign-tests --test differential -- --nocapture
