//! Small SVG plots of benchmark results, to look at before reading the tables.
//!
//! The SVG is written as text. A plotting crate draws axes, legends and series of points, and measures text with a font it
//! brings along; what is wanted here is a dozen labelled rectangles whose colours follow the reader's light or dark mode,
//! which needs classes and a `<style>` of our own in any case.

mod bars;
mod lines;
mod svg;

pub use bars::{Bar, bars};
pub use lines::{Line, lines};
