//! See the library: a program of its own only because another one counts allocations.

fn main() -> Result<(), countersign_bench::Failure> {
    countersign_bench_observability::run()
}
