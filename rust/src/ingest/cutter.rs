//! Cut a stream of text into documents by a rule. Only the start of a line that may still turn out to be blank, or to
//! be a heading, is held back. `documents.py` documents the rules for users; the tests compare both implementations.

use super::blocks::Builder;

/// The rule that cuts text into documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    File,
    Line,
    BlankLine,
    Wikitext,
}

impl Rule {
    /// The rule with this name on the command line.
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

/// Cuts one text after another. Texts may come in pieces of any length.
pub struct Cutter {
    rule: Rule,
    /// The start of a line that is held back.
    held: String,
    /// Whether the start of a line that is not blank was passed on.
    in_line: bool,
    /// Blank lines at the start of a text. They are kept only if a document without a heading follows.
    blank: String,
}

impl Cutter {
    /// Make a cutter at the start of a text.
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            held: String::new(),
            in_line: false,
            blank: String::new(),
        }
    }

    /// Cut a piece of the text and pass it on.
    pub fn push(&mut self, piece: &str, builder: &mut Builder) {
        if self.rule == Rule::File {
            builder.push(piece);
            return;
        }
        for part in piece.split_inclusive('\n') {
            self.push_part(part, builder);
        }
    }

    /// End the text.
    pub fn end(&mut self, builder: &mut Builder) {
        let rest = std::mem::take(&mut self.held);
        self.line(&rest, true, builder);
        self.blank.clear();
        builder.end_document();
    }

    /// Take a part of one line, with the line end if it is the last part.
    fn push_part(&mut self, part: &str, builder: &mut Builder) {
        let ends = part.ends_with('\n');
        if self.held.is_empty() && !self.must_wait(part, part, ends) {
            self.line(part, ends, builder);
            return;
        }
        self.held.push_str(part);
        if !self.must_wait(&self.held, part, ends) {
            let line = std::mem::take(&mut self.held);
            self.line(&line, ends, builder);
        }
    }

    /// Whether this start of a line, whose last part is `part`, could still become a blank line or a heading.
    fn must_wait(&self, line: &str, part: &str, ends: bool) -> bool {
        let heads = self.rule == Rule::Wikitext && (line.starts_with(" = ") || " = ".starts_with(line));
        !ends && !self.in_line && (heads || is_blank(part))
    }

    /// Take a whole line, or the start of a line that is known not to be blank, or a later part of that line.
    fn line(&mut self, line: &str, ends: bool, builder: &mut Builder) {
        let begins = !std::mem::replace(&mut self.in_line, !ends);
        match self.rule {
            Rule::Line => self.document_line(line, begins, ends, builder),
            Rule::BlankLine if begins && is_blank(line) => builder.end_document(),
            Rule::Wikitext if begins => self.article_line(line, builder),
            Rule::File | Rule::BlankLine | Rule::Wikitext => builder.push(line),
        }
    }

    /// Line ends are not part of the document. A carriage return is held back, since it may be part of a line end.
    fn document_line(&mut self, line: &str, begins: bool, ends: bool, builder: &mut Builder) {
        if begins && is_blank(line) {
            return;
        }
        let text = line.trim_end_matches(['\r', '\n']);
        builder.push(text);
        if ends {
            builder.end_document();
        } else {
            self.held.push_str(&line[text.len()..]);
        }
    }

    fn article_line(&mut self, line: &str, builder: &mut Builder) {
        if is_heading(line) {
            self.blank.clear();
            builder.end_document();
        }
        if !builder.has_text() && is_blank(line) {
            self.blank.push_str(line);
        } else {
            builder.push(&self.blank);
            self.blank.clear();
            builder.push(line);
        }
    }
}

/// White space as Python defines it, which includes the four information separators.
fn is_blank(line: &str) -> bool {
    line.chars()
        .all(|character| character.is_whitespace() || matches!(character, '\x1c'..='\x1f'))
}

/// Whether the line is a heading of level one: ` = Title = `.
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
