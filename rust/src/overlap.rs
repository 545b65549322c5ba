//! How much of one split also occurs in another, measured by passages.
//!
//! A passage is `PASSAGE` tokens of one document, or a whole shorter document with its end-of-text token. Passages are
//! taken at evenly spread places. A long passage is looked up at every place of the other split, with a rolling hash, so
//! it is found wherever documents begin; a short document is looked up among the short documents.

use std::collections::HashSet;

use rayon::prelude::*;

use crate::error::Result;
use crate::split::TokenSplit;

/// Tokens of a passage: long enough that other text rarely has the same ones.
pub const PASSAGE: usize = 32;
/// Most passages that are looked up.
pub const MOST_PASSAGES: u64 = 1024;
const PIECE: usize = 1 << 20;
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
/// Bits of a hash that choose a bit of the filter.
const FILTER_BITS: u32 = 16;

/// The number of passages of `part` that were looked up, and how many of them are in `whole`.
///
/// # Errors
/// When a read fails or an index is damaged.
pub fn overlap(part: &TokenSplit, whole: &TokenSplit) -> Result<(u64, u64)> {
    let ends = part.document_ends()?;
    let count = part.num_tokens().min(MOST_PASSAGES);
    let (mut long, mut short) = (Vec::new(), Vec::new());
    for number in 0..count {
        let position = (u128::from(number) * u128::from(part.num_tokens()) / u128::from(count)) as u64;
        let document = ends.partition_point(|&end| end <= position);
        let start = if document == 0 { 0 } else { ends[document - 1] };
        let len = (ends[document] - start) as usize;
        let (first, len, hashes) = if len > PASSAGE {
            (position.min(ends[document] - 1 - PASSAGE as u64), PASSAGE, &mut long)
        } else {
            (start, len, &mut short)
        };
        let mut tokens = vec![0_u32; len];
        part.read(first, &mut tokens)?;
        hashes.push(hash(&tokens));
    }
    let in_text = found_anywhere(&long, whole)?;
    let in_documents = found_as_documents(&short, whole)?;
    let found = long.iter().filter(|hash| in_text.contains(hash)).count()
        + short.iter().filter(|hash| in_documents.contains(hash)).count();
    Ok((count, found as u64))
}

/// The hash of a passage; that of a rolling window of the same tokens is equal.
fn hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0, |hash, &token| step(hash, token))
}

fn step(hash: u64, token: u32) -> u64 {
    // One is added so that leading zeros count.
    hash.wrapping_mul(BASE).wrapping_add(u64::from(token) + 1)
}

/// The hashes of these passages of `PASSAGE` tokens that are at any place of the split.
fn found_anywhere(hashes: &[u64], split: &TokenSplit) -> Result<HashSet<u64>> {
    let wanted: HashSet<u64> = hashes.iter().copied().collect();
    if wanted.is_empty() || split.num_tokens() < PASSAGE as u64 {
        return Ok(HashSet::new());
    }
    let mut filter = vec![0_u64; 1 << (FILTER_BITS - 6)];
    for hash in &wanted {
        let bit = hash >> (64 - FILTER_BITS);
        filter[(bit >> 6) as usize] |= 1 << (bit & 63);
    }
    let oldest = (1..PASSAGE).fold(BASE, |power, _| power.wrapping_mul(BASE));
    let num_pieces = split.num_tokens().div_ceil(PIECE as u64);
    let piece = |index: u64| {
        let start = index * PIECE as u64;
        let len = (PIECE + PASSAGE - 1).min((split.num_tokens() - start) as usize);
        let mut tokens = vec![0_u32; len];
        split.read(start, &mut tokens)?;
        let mut found = HashSet::new();
        if len < PASSAGE {
            return Ok(found);
        }
        let mut rolling = hash(&tokens[..PASSAGE]);
        let mut check = |rolling: u64| {
            let bit = rolling >> (64 - FILTER_BITS);
            if filter[(bit >> 6) as usize] >> (bit & 63) & 1 == 1 && wanted.contains(&rolling) {
                found.insert(rolling);
            }
        };
        check(rolling);
        for (&next, &gone) in tokens[PASSAGE..].iter().zip(&tokens) {
            rolling = step(rolling, next).wrapping_sub(oldest.wrapping_mul(u64::from(gone) + 1));
            check(rolling);
        }
        Ok(found)
    };
    let found: Result<Vec<HashSet<u64>>> = (0..num_pieces).into_par_iter().map(piece).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// The hashes of these documents of at most `PASSAGE` tokens that are documents of the split.
fn found_as_documents(hashes: &[u64], split: &TokenSplit) -> Result<HashSet<u64>> {
    let wanted: HashSet<u64> = hashes.iter().copied().collect();
    let mut found = HashSet::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let (mut tokens, mut from, mut start) = (Vec::<u32>::new(), 0_u64, 0_u64);
    for end in split.document_ends()? {
        let len = (end - start) as usize;
        if len <= PASSAGE {
            if end > from + tokens.len() as u64 {
                from = start;
                tokens.resize(PIECE.min((split.num_tokens() - start) as usize), 0);
                split.read(start, &mut tokens)?;
            }
            let first = (start - from) as usize;
            let document = hash(&tokens[first..first + len]);
            if wanted.contains(&document) {
                found.insert(document);
            }
        }
        start = end;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Packer;

    const VOCABULARY: u32 = 1000;
    const EOS: u32 = 999;

    fn split(directory: &std::path::Path, name: &str, documents: &[Vec<u16>]) -> TokenSplit {
        let mut packer = Packer::new(directory, name, VOCABULARY, EOS, 1 << 12).expect("a packer");
        for document in documents {
            let mut ids = document.clone();
            ids.push(EOS as u16);
            packer.add(&ids, true).expect("written");
        }
        let shards = packer.finish().expect("finished");
        let paths: Vec<_> = shards.iter().map(|shard| directory.join(&shard.name)).collect();
        TokenSplit::open(&paths, true).expect("readable")
    }

    /// Numbers that do not repeat within a passage.
    fn document(seed: u64, len: usize) -> Vec<u16> {
        let token = |at: u64| ((seed * 7919 + at).wrapping_mul(BASE) >> 40) % 990;
        (0..len as u64).map(|at| token(at) as u16).collect()
    }

    #[test]
    fn passages_are_found_wherever_documents_begin() {
        let folder = tempfile::tempdir().expect("a folder");
        let train: Vec<_> = (0..40).map(|seed| document(seed, 400)).collect();
        let whole = split(folder.path(), "train", &train);
        let other: Vec<_> = (100..110).map(|seed| document(seed, 400)).collect();
        let joined = vec![train[3][50..].iter().chain(&train[7][..200]).copied().collect()];
        let mixed = vec![train[5].clone(), document(200, 400)];
        for (name, documents, low, high) in [
            ("validation", &other, 0.0, 0.0),
            ("validation", &train, 1.0, 1.0),
            ("validation", &joined, 0.9, 1.0),
            ("validation", &mixed, 0.45, 0.55),
        ] {
            let part = split(folder.path(), name, documents);
            let (count, found) = overlap(&part, &whole).expect("readable");
            let share = found as f64 / count as f64;
            assert!((low..=high).contains(&share), "{share} is not between {low} and {high}");
        }
    }

    #[test]
    fn short_documents_are_found_as_documents() {
        let folder = tempfile::tempdir().expect("a folder");
        let train: Vec<_> = (0..3000).map(|seed| document(seed, 1 + seed as usize % 31)).collect();
        let whole = split(folder.path(), "train", &train);
        let scattered: Vec<_> = train.iter().step_by(7).cloned().collect();
        let part = split(folder.path(), "validation", &scattered);
        let (count, found) = overlap(&part, &whole).expect("readable");
        assert_eq!(found, count);
        let others: Vec<_> = (5000..5300).map(|seed| document(seed, 20)).collect();
        let part = split(folder.path(), "validation", &others);
        assert_eq!(overlap(&part, &whole).expect("readable").1, 0);
    }
}
