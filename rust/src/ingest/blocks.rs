//! Collect documents into blocks of a quarter of a megabyte. A thread encodes one block at a time.
//!
//! A block holds many short documents, or a part of a long one. A long document is cut at a place where its ids do not
//! change, so memory stays bounded whatever its length. A tokenizer that has no such places gets whole documents.

use crate::encode::Encoder;

/// Knows where a long document may be cut.
pub trait Cuts {
    /// The last place after byte `from` where `text` may be cut, or None.
    fn last_cut(&self, text: &str, from: usize) -> Option<usize>;
}

impl Cuts for Encoder {
    fn last_cut(&self, text: &str, from: usize) -> Option<usize> {
        self.last_cut(text, from)
    }
}

/// Approximate number of bytes of text in a block.
pub const BLOCK_BYTES: usize = 1 << 18;

/// The split that a document belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Train,
    Validation,
}

/// Whether document `index` is held out. Document d is held out if floor((d+1) f + 1/2) > floor(d f + 1/2).
pub fn is_held_out(index: u64, fraction: f64) -> bool {
    ((index + 1) as f64 * fraction + 0.5).floor() > (index as f64 * fraction + 0.5).floor()
}

/// A piece of one document in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// End of the piece in the text of the block.
    pub end: usize,
    /// Whether the document began in an earlier block.
    pub continues: bool,
    /// Whether the document ends with this piece.
    pub ends: bool,
    /// Split of the document.
    pub target: Target,
    /// Whether the document is in a shard kept from an earlier call: it is counted but not encoded.
    pub kept: bool,
}

/// The text that one thread encodes at a time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Text of all pieces.
    pub text: String,
    /// The pieces in order.
    pub pieces: Vec<Piece>,
}

/// Collects documents into blocks and assigns each to a split.
pub struct Builder {
    block_bytes: usize,
    block: Block,
    /// Where the open document's text begins in the block.
    open: usize,
    /// Whether the open document has text in an earlier block.
    continues: bool,
    num_documents: u64,
    fraction: f64,
    /// Documents of each split that are in kept shards and need no encoding.
    kept: [u64; 2],
    /// The open document has no place for a cut before this position.
    tried: usize,
    spare: Vec<Block>,
}

impl Builder {
    /// Make blocks of about `block_bytes` of text. Hold out the share `fraction` of the documents. The first `kept`
    /// documents of each split are only counted.
    pub fn new(block_bytes: usize, fraction: f64, kept: [u64; 2]) -> Self {
        Self {
            block_bytes,
            block: Block::default(),
            open: 0,
            continues: false,
            num_documents: 0,
            fraction,
            kept,
            tried: 0,
            spare: Vec::new(),
        }
    }

    /// Number the documents from `first_document` on. The number of a document decides whether it is held out.
    pub fn begin_at(&mut self, first_document: u64) {
        self.num_documents = first_document;
    }

    /// Approximate number of bytes of text in a block.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Hold out every document from now on.
    pub fn hold_out_all(&mut self) {
        self.fraction = f64::INFINITY;
    }

    /// Append text to the open document.
    pub fn push(&mut self, text: &str) {
        self.block.text.push_str(text);
    }

    /// Whether the open document has text.
    pub fn has_text(&self) -> bool {
        self.continues || self.block.text.len() > self.open
    }

    /// End the open document. A document without text is dropped.
    pub fn end_document(&mut self) {
        if !self.has_text() {
            return;
        }
        let target = self.target();
        self.close_piece(self.block.text.len(), true, target);
        self.num_documents += 1;
        let kept = &mut self.kept[target as usize];
        *kept = kept.saturating_sub(1);
    }

    fn target(&self) -> Target {
        let held_out = self.fraction.is_infinite() || is_held_out(self.num_documents, self.fraction);
        if held_out { Target::Validation } else { Target::Train }
    }

    fn close_piece(&mut self, end: usize, ends: bool, target: Target) {
        self.block.pieces.push(Piece {
            end,
            continues: self.continues,
            ends,
            target,
            kept: self.kept[target as usize] > 0,
        });
        self.continues = !ends;
        self.open = end;
        self.tried = end;
    }

    /// Take the block if it is full. The open document may be cut for this.
    pub fn take_full(&mut self, cuts: &impl Cuts) -> Option<Block> {
        if self.block.text.len() < self.block_bytes {
            return None;
        }
        if self.block.text.len() - self.tried >= self.block_bytes / 2 {
            let from = self.tried;
            if let Some(cut) = cuts.last_cut(&self.block.text[self.open..], from - self.open) {
                let target = self.target();
                self.close_piece(self.open + cut, false, target);
            } else {
                self.tried = self.block.text.len();
            }
        }
        self.take()
    }

    /// Take the pieces so far, without the rest of the open document. None if there are no pieces.
    pub fn take(&mut self) -> Option<Block> {
        if self.block.pieces.is_empty() {
            return None;
        }
        let mut next = self.spare.pop().unwrap_or_default();
        next.text.push_str(&self.block.text[self.open..]);
        self.block.text.truncate(self.open);
        self.tried = self.tried.saturating_sub(self.open);
        self.open = 0;
        Some(std::mem::replace(&mut self.block, next))
    }

    /// Reuse the memory of a block that was written, because the first touch of new memory is slow. Memory that a very
    /// long word took is freed.
    pub fn recycle(&mut self, mut block: Block) {
        block.text.clear();
        block.text.shrink_to(4 * self.block_bytes);
        block.pieces.clear();
        self.spare.push(block);
    }
}
