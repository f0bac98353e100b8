#!/usr/bin/env bash
# The whole simulation of the refresh plan: 100,000 worlds for each of its properties, or as many as the argument says. `cargo test`
# lives through 200 of each.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export COUNTERSIGN_SIMULATION_SEEDS="${1:-100000}"
exec cargo test --release -p countersign-jwks --lib -- plan::tests::simulation --nocapture
