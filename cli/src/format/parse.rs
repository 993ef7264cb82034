//! The tree of a template.

use std::fmt;

use super::TemplateError;
use super::functions;
use super::number::Number;
use super::token::Token;
use super::token::TokenKind;
use super::token::tokens;

/// One step of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// `if`, `with` or `range`: a pipeline and what is done when it is empty or not.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each given the value of the one before, and the variables that take the last one's.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand, or a function and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

/// A part of a command and where it stands in the template.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) kind: OperandKind,
}

#[derive(Debug)]
pub(super) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Number {
        text: String,
        value: Number,
    },
    Text {
        quoted: String,
        value: String,
    },
    Field(Vec<String>),
    Variable {
        name: String,
        fields: Vec<String>,
    },
    Function(String),
    Chain {
        of: Box<Operand>,
        fields: Vec<String>,
    },
    Pipe(Pipe),
}

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        source,
        tokens: tokens(source)?,
        next: 0,
        variables: vec!["$".to_owned()],
        ranges: 0,
        nesting: 0,
    };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Source => Ok(nodes),
        End::OfBlock => Err(parser.error("unexpected {{end}}")),
        End::Else => Err(parser.error("unexpected {{else}}")),
    }
}

/// How deep blocks and parentheses may stand in each other; a template is untrusted no more than its author's stack.
const DEEPEST: usize = 200;

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<String>,
    ranges: usize,
    nesting: usize,
}

/// What ended a list of nodes.
enum End {
    Source,
    OfBlock,
    Else,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> TemplateError {
        let at = self.tokens[self.next.saturating_sub(1)].at;
        TemplateError::parse(self.source, at, message)
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == TokenKind::Space {
            self.next += 1;
        }
    }

    fn take_solid(&mut self) -> Token {
        self.skip_space();
        self.take()
    }

    fn unexpected(&self, token: &Token, context: &str) -> TemplateError {
        let shown = match token.kind {
            TokenKind::End => "EOF".to_owned(),
            TokenKind::Keyword | TokenKind::Dot => format!("<{}>", token.text),
            _ if token.text.len() > 10 => {
                format!("{:?}...", token.text.chars().take(10).collect::<String>())
            }
            _ => format!("{:?}", token.text),
        };
        self.error(format!("unexpected {shown} in {context}"))
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.nesting += 1;
        match self.nesting > DEEPEST {
            true => Err(self.error("nested too deeply")),
            false => Ok(()),
        }
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                TokenKind::End => return Ok((nodes, End::Source)),
                TokenKind::Text => nodes.push(Node::Text(token.text)),
                _ => {
                    self.skip_space();
                    let word = self.peek().clone();
                    let is_keyword = word.kind == TokenKind::Keyword && word.text != "nil";
                    if !is_keyword {
                        nodes.push(Node::Action(self.pipeline("command", TokenKind::Close)?));
                        continue;
                    }
                    self.next += 1;
                    match word.text.as_str() {
                        "end" => {
                            self.close("end")?;
                            return Ok((nodes, End::OfBlock));
                        }
                        "else" => return Ok((nodes, End::Else)),
                        _ => nodes.push(self.control(&word)?),
                    }
                }
            }
        }
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        let token = self.take_solid();
        match token.kind {
            TokenKind::Close => Ok(()),
            _ => Err(self.unexpected(&token, context)),
        }
    }

    fn control(&mut self, word: &Token) -> Result<Node, TemplateError> {
        match word.text.as_str() {
            "if" => Ok(Node::If(self.branch("if")?)),
            "with" => Ok(Node::With(self.branch("with")?)),
            "range" => Ok(Node::Range(self.branch("range")?)),
            name @ ("break" | "continue") => {
                self.close(name)?;
                if self.ranges == 0 {
                    return Err(self.error(format!("{{{{{name}}}}} outside {{{{range}}}}")));
                }
                Ok(match name {
                    "break" => Node::Break,
                    _ => Node::Continue,
                })
            }
            name => Err(self.error(format!("{{{{{name}}}}} is not supported"))),
        }
    }

    /// Parses from behind `if`, `with` or `range` to behind its `end`.
    fn branch(&mut self, context: &str) -> Result<Branch, TemplateError> {
        self.deeper()?;
        let visible = self.variables.len();
        let pipe = self.pipeline(context, TokenKind::Close)?;
        let loops = usize::from(context == "range");
        self.ranges += loops;
        let (body, end) = self.nodes()?;
        self.ranges -= loops;
        let otherwise = match end {
            End::Source => return Err(self.error("unexpected EOF")),
            End::OfBlock => Vec::new(),
            End::Else => self.otherwise(context)?,
        };
        self.variables.truncate(visible);
        self.nesting -= 1;
        Ok(Branch {
            pipe,
            body,
            otherwise,
        })
    }

    /// Parses from behind `else` to behind the `end`.
    fn otherwise(&mut self, context: &str) -> Result<Vec<Node>, TemplateError> {
        self.skip_space();
        let word = self.peek().clone();
        if word.kind == TokenKind::Keyword && word.text == context && context != "range" {
            self.next += 1;
            return Ok(vec![self.control(&word)?]);
        }
        self.close("else")?;
        let (nodes, end) = self.nodes()?;
        match end {
            End::Source => Err(self.error("unexpected EOF")),
            End::OfBlock => Ok(nodes),
            End::Else => Err(self.error("expected end; found {{else}}")),
        }
    }

    fn pipeline(&mut self, context: &str, end: TokenKind) -> Result<Pipe, TemplateError> {
        let mut pipe = Pipe {
            variables: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.take_solid();
            match token.kind {
                kind if kind == end => {
                    self.check(&pipe, context)?;
                    // A variable can be used only behind its declaration.
                    if !pipe.assigns {
                        self.variables.extend(pipe.variables.iter().cloned());
                    }
                    return Ok(pipe);
                }
                TokenKind::Bool
                | TokenKind::Character
                | TokenKind::Dot
                | TokenKind::Field
                | TokenKind::Identifier
                | TokenKind::Number
                | TokenKind::Quoted
                | TokenKind::Raw
                | TokenKind::Variable
                | TokenKind::OpenParen => {
                    self.next -= 1;
                    pipe.commands.push(self.command()?);
                }
                TokenKind::Keyword if token.text == "nil" => {
                    self.next -= 1;
                    pipe.commands.push(self.command()?);
                }
                _ => return Err(self.unexpected(&token, context)),
            }
        }
    }

    /// Takes `$x :=`, `$x =` or, in a range, `$i, $x :=`.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<(), TemplateError> {
        loop {
            self.skip_space();
            let before = self.next;
            if self.peek().kind != TokenKind::Variable {
                return Ok(());
            }
            let variable = self.take();
            self.skip_space();
            match self.peek().kind {
                TokenKind::Declare | TokenKind::Assign => {
                    pipe.assigns = self.take().kind == TokenKind::Assign;
                    pipe.variables.push(variable.text);
                    let unknown = pipe
                        .variables
                        .iter()
                        .find(|name| pipe.assigns && !self.variables.contains(name));
                    return match unknown {
                        Some(name) => Err(self.error(format!("undefined variable {name:?}"))),
                        None => Ok(()),
                    };
                }
                TokenKind::Comma => {
                    self.next += 1;
                    pipe.variables.push(variable.text);
                    if context != "range" || pipe.variables.len() > 1 {
                        return Err(self.error(format!("too many declarations in {context}")));
                    }
                }
                _ if !pipe.variables.is_empty() => {
                    let token = self.take();
                    return Err(self.unexpected(&token, context));
                }
                _ => {
                    self.next = before;
                    return Ok(());
                }
            }
        }
    }

    fn check(&self, pipe: &Pipe, context: &str) -> Result<(), TemplateError> {
        if pipe.commands.is_empty() {
            return Err(self.error(format!("missing value for {context}")));
        }
        for (number, command) in pipe.commands.iter().enumerate().skip(1) {
            let cannot_run = matches!(
                command.operands[0].kind,
                OperandKind::Bool(_)
                    | OperandKind::Dot
                    | OperandKind::Nil
                    | OperandKind::Number { .. }
                    | OperandKind::Text { .. }
            );
            if cannot_run {
                let stage = number + 1;
                return Err(self.error(format!("non executable command in pipeline stage {stage}")));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            operands.extend(self.operand()?);
            let token = self.take();
            match token.kind {
                TokenKind::Space => {}
                TokenKind::Close | TokenKind::CloseParen => {
                    self.next -= 1;
                    break;
                }
                TokenKind::Pipe => break,
                _ => return Err(self.unexpected(&token, "operand")),
            }
        }
        match operands.is_empty() {
            true => Err(self.error("empty command")),
            false => Ok(Command { operands }),
        }
    }

    /// Takes a term and the fields behind it.
    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let Some(mut operand) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != TokenKind::Field {
            return Ok(Some(operand));
        }
        let at = self.peek().at;
        let mut more = Vec::new();
        while self.peek().kind == TokenKind::Field {
            more.push(self.take().text[1..].to_owned());
        }
        match &mut operand.kind {
            OperandKind::Field(fields) | OperandKind::Variable { fields, .. } => {
                fields.append(&mut more);
                operand.at = at;
            }
            OperandKind::Bool(_)
            | OperandKind::Text { .. }
            | OperandKind::Number { .. }
            | OperandKind::Nil
            | OperandKind::Dot => {
                let term = operand.to_string();
                return Err(self.error(format!("unexpected . after term {term:?}")));
            }
            _ => {
                operand = Operand {
                    at,
                    kind: OperandKind::Chain {
                        of: Box::new(operand),
                        fields: more,
                    },
                };
            }
        }
        Ok(Some(operand))
    }

    fn term(&mut self) -> Result<Option<Operand>, TemplateError> {
        let token = self.take_solid();
        let text = token.text.as_str();
        let kind = match token.kind {
            TokenKind::Identifier if functions::is_known(text) => {
                OperandKind::Function(text.to_owned())
            }
            TokenKind::Identifier => {
                return Err(self.error(format!("function {text:?} not defined")));
            }
            TokenKind::Dot => OperandKind::Dot,
            TokenKind::Keyword if text == "nil" => OperandKind::Nil,
            TokenKind::Bool => OperandKind::Bool(text == "true"),
            TokenKind::Field => OperandKind::Field(vec![text[1..].to_owned()]),
            TokenKind::Variable if self.variables.iter().any(|known| known == text) => {
                OperandKind::Variable {
                    name: text.to_owned(),
                    fields: Vec::new(),
                }
            }
            TokenKind::Variable => {
                return Err(self.error(format!("undefined variable {text:?}")));
            }
            TokenKind::Number => OperandKind::Number {
                value: Number::parse(text).ok_or_else(|| self.error("bad number syntax"))?,
                text: text.to_owned(),
            },
            TokenKind::Character => {
                let value = unquote(text).filter(|value| value.chars().count() == 1);
                let character = value.and_then(|value| value.chars().next());
                let Some(character) = character else {
                    return Err(self.error(format!("malformed character constant: {text}")));
                };
                OperandKind::Number {
                    value: Number::Int(i128::from(u32::from(character))),
                    text: text.to_owned(),
                }
            }
            TokenKind::Quoted | TokenKind::Raw => OperandKind::Text {
                value: unquote(text).ok_or_else(|| self.error("invalid syntax"))?,
                quoted: text.to_owned(),
            },
            TokenKind::OpenParen => {
                self.deeper()?;
                let pipe = self.pipeline("parenthesized pipeline", TokenKind::CloseParen)?;
                self.nesting -= 1;
                OperandKind::Pipe(pipe)
            }
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Operand { at: token.at, kind }))
    }
}

/// Takes the quotes off and the escapes apart, as Go's string constants have them.
fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.get(1..quoted.len() - 1)?;
    if quoted.starts_with('`') {
        return Some(inner.replace('\r', ""));
    }
    let mut value = String::new();
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            value.push(character);
            continue;
        }
        let escape = rest.next()?;
        let (digits, radix, first) = match escape {
            'x' => (2, 16, None),
            'u' => (4, 16, None),
            'U' => (8, 16, None),
            '0'..='7' => (2, 8, escape.to_digit(8)),
            _ => {
                value.push(match escape {
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    '\\' | '\'' | '"' => escape,
                    _ => return None,
                });
                continue;
            }
        };
        let mut code = first.unwrap_or(0);
        for _ in 0..digits {
            code = code.checked_mul(radix)? + rest.next()?.to_digit(radix)?;
        }
        value.push(char::from_u32(code)?);
    }
    Some(value)
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.variables.join(", "))?;
        }
        for (number, command) in self.commands.iter().enumerate() {
            let before = if number > 0 { " | " } else { "" };
            write!(f, "{before}{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, operand) in self.operands.iter().enumerate() {
            let before = if number > 0 { " " } else { "" };
            write!(f, "{before}{operand}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields =
            |fields: &[String]| fields.iter().try_for_each(|name| write!(f, ".{name}"));
        match &self.kind {
            OperandKind::Dot => write!(f, "."),
            OperandKind::Nil => write!(f, "nil"),
            OperandKind::Bool(value) => write!(f, "{value}"),
            OperandKind::Number { text, .. } | OperandKind::Function(text) => write!(f, "{text}"),
            OperandKind::Text { quoted, .. } => write!(f, "{quoted}"),
            OperandKind::Field(names) => fields(names),
            OperandKind::Variable { name, fields } => {
                write!(f, "{name}")?;
                fields.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            OperandKind::Chain { of, fields } => {
                write!(f, "{of}")?;
                fields.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            OperandKind::Pipe(pipe) => write!(f, "({pipe})"),
        }
    }
}
