//! Tests of countersign's public API. What is in this library itself is only what several of them share.
