//! Enough of Rust's lexical grammar to tell code from strings and comments, with line numbers.
//! A parser would see less: the bodies of macros are tokens too.

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word(String),
    /// The contents of a string literal, escapes left as written.
    Text(String),
    Comment(String),
    Mark(char),
}

#[derive(Debug, Clone)]
pub struct Lexed {
    pub token: Token,
    pub line: usize,
}

impl Lexed {
    pub fn word(&self) -> Option<&str> {
        match &self.token {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    pub fn is_mark(&self, mark: char) -> bool {
        self.token == Token::Mark(mark)
    }
}

pub fn lex(source: &str) -> Vec<Lexed> {
    Lexer { chars: source.chars().collect(), at: 0, line: 1, out: Vec::new() }.run()
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    out: Vec<Lexed>,
}

impl Lexer {
    fn run(mut self) -> Vec<Lexed> {
        while let Some(c) = self.peek(0) {
            let line = self.line;
            let token = match c {
                '/' if self.peek(1) == Some('/') => Some(Token::Comment(self.until(|l| l.peek(0) == Some('\n')))),
                '/' if self.peek(1) == Some('*') => Some(Token::Comment(self.block_comment())),
                '"' => {
                    self.step();
                    Some(Token::Text(self.quoted()))
                }
                '\'' => self.quote(),
                _ if c.is_alphabetic() || c == '_' => Some(self.word()),
                _ if c.is_ascii_digit() => {
                    self.until(|l| !l.peek(0).is_some_and(|c| c.is_alphanumeric() || c == '_'));
                    None
                }
                _ => {
                    self.step();
                    (!c.is_whitespace()).then_some(Token::Mark(c))
                }
            };
            if let Some(token) = token {
                self.out.push(Lexed { token, line });
            }
        }
        self.out
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn until(&mut self, stop: impl Fn(&Self) -> bool) -> String {
        let mut taken = String::new();
        while !stop(self) {
            match self.step() {
                Some(c) => taken.push(c),
                None => break,
            }
        }
        taken
    }

    fn block_comment(&mut self) -> String {
        let (mut depth, mut taken) = (0, String::new());
        while let Some(c) = self.step() {
            taken.push(c);
            if c == '/' && self.peek(0) == Some('*') {
                depth += 1;
                taken.extend(self.step());
            } else if c == '*' && self.peek(0) == Some('/') {
                depth -= 1;
                taken.extend(self.step());
                if depth == 0 {
                    break;
                }
            }
        }
        taken
    }

    fn quoted(&mut self) -> String {
        let mut taken = String::new();
        while let Some(c) = self.step() {
            match c {
                '"' => break,
                '\\' => {
                    taken.push(c);
                    taken.extend(self.step());
                }
                _ => taken.push(c),
            }
        }
        taken
    }

    /// A character literal, which says nothing, or a lifetime.
    fn quote(&mut self) -> Option<Token> {
        self.step();
        if self.peek(0) == Some('\\') {
            self.step();
            self.step();
            self.until(|l| l.peek(0) == Some('\''));
            self.step();
        } else if self.peek(1) == Some('\'') {
            self.step();
            self.step();
        } else {
            self.until(|l| !l.peek(0).is_some_and(|c| c.is_alphanumeric() || c == '_'));
        }
        None
    }

    fn word(&mut self) -> Token {
        let word = self.until(|l| !l.peek(0).is_some_and(|c| c.is_alphanumeric() || c == '_'));
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        if raw {
            let hashes = (0..).take_while(|n| self.peek(*n) == Some('#')).count();
            if self.peek(hashes) == Some('"') {
                (0..=hashes).for_each(|_| {
                    self.step();
                });
                return Token::Text(self.raw(hashes));
            }
            if word == "r" && hashes == 1 {
                self.step();
                return self.word();
            }
        } else if matches!(word.as_str(), "b" | "c") && self.peek(0) == Some('"') {
            self.step();
            return Token::Text(self.quoted());
        }
        Token::Word(word)
    }

    fn raw(&mut self, hashes: usize) -> String {
        let closed = |l: &Self| l.peek(0) == Some('"') && (1..=hashes).all(|n| l.peek(n) == Some('#'));
        let text = self.until(closed);
        (0..=hashes).for_each(|_| {
            self.step();
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(source: &str) -> Vec<Token> {
        lex(source).into_iter().map(|l| l.token).collect()
    }

    #[test]
    fn a_string_is_not_code_and_code_is_not_a_string() {
        let found = tokens(r##"let a = "fn get_x() \" {"; let b = r#"SELECT "x""#; let c = b"raw";"##);
        let texts: Vec<_> = found.iter().filter(|t| matches!(t, Token::Text(_))).cloned().collect();
        assert_eq!(texts, [Token::Text(r#"fn get_x() \" {"#.into()), Token::Text(r#"SELECT "x""#.into()), Token::Text("raw".into())]);
        assert!(!found.contains(&Token::Word("get_x".into())));
    }

    #[test]
    fn lifetimes_and_characters_do_not_swallow_what_follows() {
        let found = tokens(r"fn f<'a>(x: &'a str) -> char { '\'' ; '{'; '\u{41}' } struct After;");
        assert!(found.contains(&Token::Word("After".into())));
        assert_eq!(found.iter().filter(|t| **t == Token::Mark('{')).count(), 1);
    }

    #[test]
    fn nested_comments_end_where_they_end_and_lines_are_counted() {
        let lexed = lex("/* a /* b */\n c */ one\n// two\nthree");
        let lines: Vec<_> = lexed.iter().filter_map(|l| l.word().map(|w| (w.to_owned(), l.line))).collect();
        assert_eq!(lines, [("one".to_owned(), 2), ("three".to_owned(), 4)]);
    }
}
