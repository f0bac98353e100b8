//! The cache of verified tokens: a layer that has one answers as a layer that has none, whatever happens to keys, revocations and clocks.

mod history;
mod interleavings;
mod story;
mod world;
