//! The same with an allocator that counts, which would take time of its own from what is timed.

use countersign_bench::counts::{Counts, count_with};

fn main() -> Result<(), countersign_bench::Failure> {
    count_with(|work| {
        let counted = allocation_counter::measure(work);
        Counts { allocations: counted.count_total, bytes: counted.bytes_total, kept: counted.bytes_current }
    });
    countersign_bench_observability::run()
}
