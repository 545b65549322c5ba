//! Put the characters of a pre-tokenizer into groups, which keeps the tables of windows small.

use super::atoms::END;
use super::automaton::{DEAD, FIRST};
use super::graph::Graph;
use super::steps::Steps;

/// Put the symbols into groups. Letters are put together, unless they end a contraction after one apostrophe; all others
/// are only put together if the automata do not tell them apart. Any grouping is correct; a coarser one is less certain.
///
/// Returns the group of each symbol, and the groups of letters as a set.
pub fn groups(steps: &Steps, graph: &Graph) -> (Vec<u8>, u32) {
    let columns = |symbol: usize| graph.symbols[symbol];
    let is_letter = |symbol: usize| {
        let atom = columns(symbol).atom;
        let ascii = (0..128_u8).filter(|&code| steps.ascii_atoms[usize::from(code)] == atom);
        ascii.clone().all(|code| code.is_ascii_alphabetic())
    };
    let mut keys: Vec<Vec<u16>> = Vec::new();
    let mut groups = Vec::new();
    let letters: Vec<bool> = (0..graph.symbols.len()).map(is_letter).collect();
    for symbol in 0..graph.symbols.len() {
        let mut key = vec![u16::from(letters[symbol])];
        for step in &steps.steps {
            let column = |symbol: usize| match (step.on_bytes, columns(symbol).byte) {
                (true, Some(byte)) => byte,
                (true, None) => END,
                (false, _) => columns(symbol).atom,
            };
            let read = |state| step.automaton.step(state, column(symbol));
            if !letters[symbol] {
                key.extend((FIRST..step.automaton.len()).map(|state| {
                    let read = read(state);
                    u16::from(read.next) << 8 | read.ended.map_or(0, |kind| kind as u16 + 1)
                }));
                continue;
            }
            key.push(read(FIRST).next.into());
            let final_state = |state: u8| (0..END).all(|atom| step.automaton.step(state, atom).next == DEAD);
            let mut ends = vec![0_u16; 256];
            for other in (0..graph.symbols.len()).filter(|&other| !letters[other]) {
                for state in FIRST..step.automaton.len() {
                    let after = step.automaton.step(state, column(other)).next;
                    ends[usize::from(after)] =
                        u16::from(after != DEAD && final_state(read(after).next) && read(after).next != DEAD);
                }
            }
            key.extend(ends);
        }
        groups.push(keys.iter().position(|other| *other == key).unwrap_or(keys.len()) as u8);
        if usize::from(groups[symbol]) == keys.len() {
            keys.push(key);
        }
    }
    let letter_groups = groups.iter().zip(letters).filter(|(_, is_letter)| *is_letter);
    let letter_groups = letter_groups.fold(0, |set, (&group, _)| set | 1_u32.wrapping_shl(u32::from(group)));
    (groups, letter_groups)
}
