//! Split text into words as a pre-tokenizer does, with tables that are made from its expressions.
//!
//! `expression` and `classes` parse, `atoms` finds the classes of characters, `automaton` makes the table of an expression, `steps`
//! reads the whole pre-tokenizer, and `reader` finds words with these tables, character by character. That defines the
//! words. `graph`, `groups`, `paths` and `windows` derive what the neighbors of a character tell about it, `terms` and `program` turn that into
//! operations on masks, and `scan` computes these for several blocks of 64 bytes at a time.

mod atoms;
mod automaton;
mod bits;
mod classes;
mod expression;
mod graph;
mod groups;
mod lanes;
mod paths;
mod program;
mod reader;
mod scan;
mod steps;
mod terms;
#[cfg(test)]
mod tests;
mod windows;

pub use scan::Splitter;
pub use steps::Steps;
