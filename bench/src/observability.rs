//! What metrics and traces add: measured by a package of its own, with features that nothing here must have.

use crate::timing::Effort;
use crate::{Failure, program};

const PACKAGE: &str = "countersign-bench-observability";

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    program::said_by(PACKAGE, PACKAGE, effort.is_quick().then_some("--quick").as_slice())
}
