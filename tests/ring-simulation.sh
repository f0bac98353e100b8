#!/usr/bin/env bash
# The whole simulation of the key ring, on all processors: 100,000 worlds, or as many as the first argument says, from seed 0 on or from the
# second one. `cargo test` lives through the first 200, CI through 3,000 others. A seed in whose world something is broken is printed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export COUNTERSIGN_SIMULATION_SEEDS="${1:-100000}" COUNTERSIGN_SIMULATION_FIRST="${2:-0}"
exec cargo test --release -p countersign-issuer --test simulation -- --nocapture no_unexpired_token
