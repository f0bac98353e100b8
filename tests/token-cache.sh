#!/usr/bin/env bash
# Histories of a layer with a cache of tokens beside one without: 200,000, or as many as the argument says. `cargo test` lives through 400.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PROPTEST_CASES="${1:-200000}"
exec cargo test --release -p countersign-tests --test token_cache -- --nocapture
