//! Text files to documents: read in pieces of fixed size, checked to be UTF-8, cut by a rule.
//!
//! A file is never in memory as a whole. What the rules mean is written where users see it, in `documents.py`; the tests
//! compare both.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::blocks::{BLOCK_BYTES, Block, Builder};
use crate::encode::Encoder;
use crate::error::{Error, Result};

/// What a document of a text file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    File,
    Line,
    BlankLine,
    Wikitext,
}

impl Rule {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "file" => Some(Self::File),
            "line" => Some(Self::Line),
            "blank-line" => Some(Self::BlankLine),
            "wikitext" => Some(Self::Wikitext),
            _ => None,
        }
    }
}

enum Input {
    Path(PathBuf),
    Documents(std::vec::IntoIter<String>),
    HoldOutAll,
}

/// A file that is being read.
struct Open {
    path: PathBuf,
    file: File,
    /// Bytes that are read and not yet handed on: the start of a character or line.
    rest: Vec<u8>,
    at_start: bool,
}

/// Turns paths, or documents from elsewhere, into blocks.
pub struct Reader {
    rule: Rule,
    inputs: VecDeque<Input>,
    open: Option<Open>,
    documents: Option<std::vec::IntoIter<String>>,
    builder: Builder,
    /// Blank lines at the start of a file that count only if a document follows without a heading.
    blank: String,
}

impl Reader {
    /// Without inputs yet.
    pub fn new(rule: Rule, builder: Builder) -> Self {
        Self {
            rule,
            inputs: VecDeque::new(),
            open: None,
            documents: None,
            builder,
            blank: String::new(),
        }
    }

    /// Read this text file next.
    pub fn add_path(&mut self, path: PathBuf) {
        self.inputs.push_back(Input::Path(path));
    }

    /// Take these documents next.
    pub fn add_documents(&mut self, documents: Vec<String>) {
        self.inputs.push_back(Input::Documents(documents.into_iter()));
    }

    /// Everything added from now on is held out.
    pub fn hold_out_all(&mut self) {
        self.inputs.push_back(Input::HoldOutAll);
    }

    /// The next full block; None when the inputs are used up.
    ///
    /// # Errors
    /// When a file cannot be read or is not UTF-8.
    pub fn next_block(&mut self, encoder: &Encoder) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.builder.take_full(encoder) {
                return Ok(Some(block));
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// What is left when all inputs are used up.
    pub fn last_block(&mut self) -> Option<Block> {
        self.builder.take()
    }

    /// Use the memory of a block that is done with.
    pub fn recycle(&mut self, block: Block) {
        self.builder.recycle(block);
    }

    /// Take in some more text; false when there is none.
    fn advance(&mut self) -> Result<bool> {
        if self.open.is_some() {
            self.read_some()?;
        } else if let Some(text) = self.documents.as_mut().and_then(Iterator::next) {
            self.builder.push(&text);
            self.builder.end_document();
        } else {
            self.documents = None;
            match self.inputs.pop_front() {
                None => return Ok(false),
                Some(Input::HoldOutAll) => self.builder.hold_out_all(),
                Some(Input::Documents(documents)) => self.documents = Some(documents),
                Some(Input::Path(path)) => {
                    let file = File::open(&path).map_err(Error::io(&path))?;
                    let rest = Vec::with_capacity(2 * BLOCK_BYTES);
                    self.open = Some(Open {
                        path,
                        file,
                        rest,
                        at_start: true,
                    });
                }
            }
        }
        Ok(true)
    }

    fn read_some(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let count = (&mut open.file)
            .take(BLOCK_BYTES as u64)
            .read_to_end(&mut open.rest)
            .map_err(Error::io(&open.path))?;
        if open.at_start {
            open.at_start = false;
            if open.rest.starts_with("\u{feff}".as_bytes()) {
                open.rest.drain(..3);
            }
        }
        let at_end = count == 0;
        let invalid = || Error::Data(format!("{}: invalid UTF-8", open.path.display()));
        let text = match std::str::from_utf8(&open.rest) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() && !at_end => {
                std::str::from_utf8(&open.rest[..error.valid_up_to()]).map_err(|_| invalid())?
            }
            Err(_) => return Err(invalid()),
        };
        let used = take_text(self.rule, text, at_end, &mut self.builder, &mut self.blank);
        if at_end {
            self.blank.clear();
            self.builder.end_document();
        } else {
            open.rest.drain(..used);
            self.open = Some(open);
        }
        Ok(())
    }
}

/// Hand text on by the rule; returns how many bytes, all but the start of a line.
fn take_text(rule: Rule, text: &str, at_end: bool, builder: &mut Builder, blank: &mut String) -> usize {
    if rule == Rule::File {
        builder.push(text);
        return text.len();
    }
    let whole = if at_end {
        text.len()
    } else {
        text.rfind('\n').map_or(0, |last| last + 1)
    };
    for line in text[..whole].split_inclusive('\n') {
        match rule {
            Rule::Line => {
                if !is_blank(line) {
                    builder.push(line.trim_end_matches(['\r', '\n']));
                    builder.end_document();
                }
            }
            Rule::BlankLine => {
                if is_blank(line) {
                    builder.end_document();
                } else {
                    builder.push(line);
                }
            }
            Rule::File | Rule::Wikitext => {
                if is_heading(line) {
                    blank.clear();
                    builder.end_document();
                }
                if !builder.has_text() && is_blank(line) {
                    blank.push_str(line);
                } else {
                    builder.push(blank);
                    blank.clear();
                    builder.push(line);
                }
            }
        }
    }
    whole
}

/// White space as Python has it: with the four information separators.
fn is_blank(line: &str) -> bool {
    line.chars()
        .all(|character| character.is_whitespace() || matches!(character, '\x1c'..='\x1f'))
}

/// ` = Title = `, a heading of level one.
fn is_heading(line: &str) -> bool {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let Some(before_end) = line.strip_suffix(" = ") else {
        return false;
    };
    let Some(title) = before_end.strip_prefix(" = ") else {
        return false;
    };
    !line[3..].starts_with("= ") && !before_end.ends_with(" =") && !is_blank(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_of_level_one() {
        for line in [" = Title = \n", " = a b = \r\n", " = = Title = "] {
            assert_eq!(is_heading(line), line != " = = Title = ", "{line:?}");
        }
        for line in [
            "",
            "\n",
            " = = \n",
            " = Title =\n",
            " = = Part = = \n",
            "= Title = \n",
            " =  = \n",
            " = = = \n",
        ] {
            assert!(!is_heading(line), "{line:?}");
        }
    }
}
