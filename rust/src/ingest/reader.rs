//! Turn inputs into blocks: text files, texts that come in pieces, and documents. A file is read in pieces of fixed
//! size and checked to be UTF-8. No file, text or document is copied as a whole.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::blocks::{Block, Builder, Cuts};
use super::cutter::{Cutter, Rule};
use crate::error::{Error, Result};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// One input. Inputs are read in order.
pub enum Input {
    /// A text file.
    Path(PathBuf),
    /// A piece of a text that is cut like a file.
    Text(String),
    /// The end of a text that came in pieces.
    EndOfText,
    /// A piece of a document, which is taken as it is.
    Piece(String),
    /// The end of a document that came in pieces.
    EndOfDocument,
    /// Documents, each taken as it is.
    Documents(std::vec::IntoIter<String>),
    /// All inputs that follow go to the validation split.
    HoldOutAll,
}

impl Input {
    /// A piece of a document, or the end of the document.
    pub fn of_piece(piece: Option<String>) -> Self {
        piece.map_or(Self::EndOfDocument, Self::Piece)
    }
}

/// A file that is being read.
struct Open {
    path: PathBuf,
    file: File,
    /// Bytes that were read but not passed on yet: the start of a character.
    rest: Vec<u8>,
    at_start: bool,
}

/// Turns inputs into blocks.
pub struct Reader {
    inputs: VecDeque<Input>,
    open: Option<Open>,
    documents: Option<std::vec::IntoIter<String>>,
    /// A document, and how many of its bytes were passed on.
    document: Option<(String, usize)>,
    cutter: Cutter,
    builder: Builder,
}

impl Reader {
    /// Make a reader without inputs.
    pub fn new(rule: Rule, builder: Builder) -> Self {
        Self {
            inputs: VecDeque::new(),
            open: None,
            documents: None,
            document: None,
            cutter: Cutter::new(rule),
            builder,
        }
    }

    /// Take these inputs next.
    pub fn add(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.inputs.extend(inputs);
    }

    /// The next full block; None when all inputs are read.
    ///
    /// # Errors
    /// When a file cannot be read or is not UTF-8.
    pub fn next_block(&mut self, cuts: &impl Cuts) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.builder.take_full(cuts) {
                return Ok(Some(block));
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// The last block, after all inputs are read.
    pub fn last_block(&mut self) -> Option<Block> {
        self.builder.take()
    }

    /// Reuse the memory of a block that was written.
    pub fn recycle(&mut self, block: Block) {
        self.builder.recycle(block);
    }

    /// Read some more text. Returns false when there is none.
    fn advance(&mut self) -> Result<bool> {
        if let Some(open) = self.open.take() {
            self.read_some(open)?;
        } else if let Some((text, start)) = self.document.take() {
            self.push_some(text, start);
        } else if let Some(text) = self.documents.as_mut().and_then(Iterator::next) {
            self.push_some(text, 0);
        } else {
            self.documents = None;
            match self.inputs.pop_front() {
                None => return Ok(false),
                Some(Input::HoldOutAll) => self.builder.hold_out_all(),
                Some(Input::Documents(documents)) => self.documents = Some(documents),
                Some(Input::Text(piece)) => self.cutter.push(&piece, &mut self.builder),
                Some(Input::EndOfText) => self.cutter.end(&mut self.builder),
                Some(Input::Piece(piece)) => self.builder.push(&piece),
                Some(Input::EndOfDocument) => self.builder.end_document(),
                Some(Input::Path(path)) => {
                    let file = File::open(&path).map_err(Error::io(&path))?;
                    self.open = Some(Open {
                        path,
                        file,
                        rest: Vec::with_capacity(self.builder.block_bytes() + 4),
                        at_start: true,
                    });
                }
            }
        }
        Ok(true)
    }

    /// Push one block of a document, from byte `start` on.
    fn push_some(&mut self, text: String, start: usize) {
        let end = text.floor_char_boundary(start + self.builder.block_bytes().max(4));
        self.builder.push(&text[start..end]);
        if end < text.len() {
            self.document = Some((text, end));
        } else {
            self.builder.end_document();
        }
    }

    /// Push one block of a file.
    fn read_some(&mut self, mut open: Open) -> Result<()> {
        let count = (&mut open.file)
            .take(self.builder.block_bytes() as u64)
            .read_to_end(&mut open.rest)
            .map_err(Error::io(&open.path))?;
        let at_end = count == 0;
        let invalid = || Error::Data(format!("{}: invalid UTF-8", open.path.display()));
        let text = match std::str::from_utf8(&open.rest) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() && !at_end => {
                std::str::from_utf8(&open.rest[..error.valid_up_to()]).map_err(|_| invalid())?
            }
            Err(_) => return Err(invalid()),
        };
        let (used, mut content) = (text.len(), text);
        if open.at_start && used > 0 {
            open.at_start = false;
            content = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        }
        self.cutter.push(content, &mut self.builder);
        if at_end {
            self.cutter.end(&mut self.builder);
        } else {
            open.rest.drain(..used);
            self.open = Some(open);
        }
        Ok(())
    }
}
