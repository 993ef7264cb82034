//! Working a template out on a value.

use std::rc::Rc;

use super::TemplateError;
use super::data::Data;
use super::data::NilOf;
use super::functions;
use super::functions::Function;
use super::functions::Takes;
use super::number::Number;
use super::parse::Branch;
use super::parse::Command;
use super::parse::Node;
use super::parse::Operand;
use super::parse::OperandKind;
use super::parse::Pipe;

/// How a template is worked out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// What the value is called when it lacks a field.
    pub(super) type_name: &'a str,
    /// A name that a map does not have is an error.
    pub(super) missing_fails: bool,
    /// Fields that Docker's JSON leaves out where they say nothing are nothing.
    pub(super) has_optional: bool,
    /// Functions that only change the look leave their argument: for a table's headings.
    pub(super) keeps_headings: bool,
}

/// The fields of Docker's types that its JSON leaves out where they say nothing.
const OPTIONAL: [&str; 19] = [
    "Annotations",
    "AuxiliaryAddresses",
    "BindOptions",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "IPRange",
    "MacAddress",
    "Mounts",
    "OsVersion",
    "Shell",
    "SizeRootFs",
    "SizeRw",
    "StopSignal",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "UsageData",
    "Variant",
];

/// Writes the template's text for `data`.
pub(super) fn evaluate(
    source: &str,
    nodes: &[Node],
    data: &Data,
    rules: Rules<'_>,
) -> Result<String, TemplateError> {
    let mut state = State {
        source,
        rules,
        variables: vec![("$", data.clone())],
        out: String::new(),
    };
    state.nodes(nodes, data)?;
    Ok(state.out)
}

struct State<'a> {
    source: &'a str,
    rules: Rules<'a>,
    variables: Vec<(&'a str, Data)>,
    out: String,
}

/// What follows a node.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

type Value = Result<Data, TemplateError>;

impl<'a> State<'a> {
    fn error(
        &self,
        at: usize,
        context: impl std::fmt::Display,
        message: impl std::fmt::Display,
    ) -> TemplateError {
        TemplateError::execute(self.source, at, &context.to_string(), &message.to_string())
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Data) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::Next
                }
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.out.push_str(&value.shown());
                    }
                    Flow::Next
                }
                Node::If(branch) => self.conditional(branch, dot, false)?,
                Node::With(branch) => self.conditional(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn conditional(
        &mut self,
        branch: &'a Branch,
        dot: &Data,
        moves_dot: bool,
    ) -> Result<Flow, TemplateError> {
        let visible = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = match (value.is_true(), moves_dot) {
            (true, true) => self.nodes(&branch.body, &value),
            (true, false) => self.nodes(&branch.body, dot),
            (false, _) => self.nodes(&branch.otherwise, dot),
        };
        self.variables.truncate(visible);
        flow
    }

    fn range(&mut self, branch: &'a Branch, dot: &Data) -> Result<Flow, TemplateError> {
        /// How often an integer may be counted up to.
        const LONGEST: i128 = 10_000_000;
        let visible = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let mut went = false;
        let mut turn = |state: &mut Self, key: Data, value: &Data| {
            went = true;
            let visible = state.variables.len();
            state.bind(&branch.pipe, key, value);
            let flow = state.nodes(&branch.body, value);
            state.variables.truncate(visible);
            flow.map(|flow| flow == Flow::Break)
        };
        match &value {
            Data::List(list) => {
                for (number, value) in list.iter().enumerate() {
                    if turn(self, Data::Int(number as i128), value)? {
                        break;
                    }
                }
            }
            Data::Map(entries) => {
                for (name, value) in entries.iter() {
                    if turn(self, Data::text(name), value)? {
                        break;
                    }
                }
            }
            Data::Int(end) if *end <= LONGEST => {
                for number in 0..*end {
                    if turn(self, Data::Int(number), &Data::Int(number))? {
                        break;
                    }
                }
            }
            Data::Missing | Data::Nil(_) => {}
            other => {
                let last = branch
                    .pipe
                    .commands
                    .last()
                    .and_then(|command| command.operands.first());
                let at = last.map_or(0, |operand| operand.at);
                let message = format!("range can't iterate over {}", other.printed());
                return Err(self.error(at, &branch.pipe, message));
            }
        }
        self.variables.truncate(visible);
        match went {
            true => Ok(Flow::Next),
            false => self.nodes(&branch.otherwise, dot),
        }
    }

    /// Gives a range's variables their values for one turn.
    fn bind(&mut self, pipe: &'a Pipe, key: Data, value: &Data) {
        let values = match pipe.variables.len() {
            2 => vec![key, value.clone()],
            _ => vec![value.clone()],
        };
        for (name, value) in pipe.variables.iter().zip(values) {
            self.set(name, value, pipe.assigns);
        }
    }

    fn set(&mut self, name: &'a str, value: Data, assigns: bool) {
        let known = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| *known == name);
        match known {
            Some((_, slot)) if assigns => *slot = value,
            _ => self.variables.push((name, value)),
        }
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Data) -> Value {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Data::Missing);
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn command(&mut self, command: &'a Command, dot: &Data, last: Option<Data>) -> Value {
        let first = &command.operands[0];
        let has_arguments = command.operands.len() > 1 || last.is_some();
        match &first.kind {
            OperandKind::Function(name) => self.call(command, name, dot, last),
            OperandKind::Field(names) if has_arguments => {
                let arguments = self.arguments(&command.operands[1..], dot, last)?;
                self.method(first, names, dot, &arguments)
            }
            OperandKind::Nil if !has_arguments => {
                Err(self.error(first.at, first, "nil is not a command"))
            }
            OperandKind::Field(_)
            | OperandKind::Variable { .. }
            | OperandKind::Chain { .. }
            | OperandKind::Pipe(_)
                if !has_arguments =>
            {
                self.operand(first, dot)
            }
            OperandKind::Variable { .. } | OperandKind::Chain { .. } | OperandKind::Pipe(_) => {
                let value = self.operand(first, dot)?;
                let message = format!("can't give argument to non-function {first}");
                drop(value);
                Err(self.error(first.at, first, message))
            }
            _ if has_arguments => {
                let message = format!("can't give argument to non-function {first}");
                Err(self.error(first.at, first, message))
            }
            _ => self.operand(first, dot),
        }
    }

    fn arguments(
        &mut self,
        operands: &'a [Operand],
        dot: &Data,
        last: Option<Data>,
    ) -> Result<Vec<Data>, TemplateError> {
        let mut values = Vec::new();
        for operand in operands {
            values.push(self.operand(operand, dot)?);
        }
        values.extend(last);
        Ok(values)
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Data) -> Value {
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Data::Nil(NilOf::Interface),
            OperandKind::Bool(value) => Data::Bool(*value),
            OperandKind::Number { value, .. } => match value {
                Number::Int(value) => Data::Int(*value),
                Number::Float(value) => Data::Float(*value),
            },
            OperandKind::Text { value, .. } => Data::text(value),
            OperandKind::Field(names) => self.fields(operand, dot.clone(), names)?,
            OperandKind::Variable { name, fields } => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let value = known.map_or(Data::Missing, |(_, value)| value.clone());
                self.fields(operand, value, fields)?
            }
            OperandKind::Chain { of, fields } => {
                let value = match &of.kind {
                    OperandKind::Function(name) => {
                        let function = functions::find(name);
                        self.invoke(of, of, name, function, Vec::new(), &[])?
                    }
                    _ => self.operand(of, dot)?,
                };
                self.fields(operand, value, fields)?
            }
            OperandKind::Function(name) => self.invoke(
                operand,
                operand,
                name,
                functions::find(name),
                Vec::new(),
                &[],
            )?,
            OperandKind::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    fn fields(&self, operand: &Operand, from: Data, names: &[String]) -> Value {
        names
            .iter()
            .try_fold(from, |at, name| self.field(operand, &at, name))
    }

    fn field(&self, operand: &Operand, at: &Data, name: &str) -> Value {
        if let Some(found) = at.get(name) {
            return Ok(found.clone());
        }
        let message = match at {
            Data::Map(_) | Data::Nil(NilOf::Map) if self.rules.missing_fails => {
                format!("map has no entry for key {name:?}")
            }
            Data::Missing if self.rules.missing_fails => {
                format!("nil data; no entry for key {name:?}")
            }
            Data::Map(_) | Data::Nil(NilOf::Map) | Data::Missing => return Ok(Data::Missing),
            Data::Nil(_) => format!("nil pointer evaluating interface {{}}.{name}"),
            Data::Struct(_) if self.rules.has_optional && OPTIONAL.contains(&name) => {
                return Ok(Data::Nil(NilOf::Pointer));
            }
            Data::Struct(_) => {
                format!(
                    "can't evaluate field {name} in type {}",
                    self.rules.type_name
                )
            }
            _ => format!("can't evaluate field {name} in type interface {{}}"),
        };
        Err(self.error(operand.at, operand, message))
    }

    /// Calls `.Name "argument"`.
    fn method(&self, operand: &Operand, names: &[String], dot: &Data, args: &[Data]) -> Value {
        let (name, before) = names
            .split_last()
            .map_or(("", names), |(name, before)| (name, before));
        let at = self.fields(operand, dot.clone(), before)?;
        match (at.get(&format!("{name}()")), args) {
            (Some(table), [Data::Text(key)]) => {
                Ok(table.get(key).cloned().unwrap_or_else(|| Data::text("")))
            }
            _ => {
                self.field(operand, &at, name)?;
                let message = format!("{name} has arguments but cannot be invoked as function");
                Err(self.error(operand.at, operand, message))
            }
        }
    }

    fn call(
        &mut self,
        command: &'a Command,
        name: &'a str,
        dot: &Data,
        last: Option<Data>,
    ) -> Value {
        let operands = &command.operands[1..];
        if name == "and" || name == "or" {
            return self.short_circuit(command, name, dot, last);
        }
        let arguments = self.arguments(operands, dot, last)?;
        let function = functions::find(name);
        self.invoke(
            &command.operands[0],
            command,
            name,
            function,
            arguments,
            operands,
        )
    }

    /// Works out arguments only until one decides.
    fn short_circuit(
        &mut self,
        command: &'a Command,
        name: &str,
        dot: &Data,
        last: Option<Data>,
    ) -> Value {
        let mut value = None;
        for operand in &command.operands[1..] {
            let found = self.operand(operand, dot)?;
            let decides = found.is_true() == (name == "or");
            value = Some(found);
            if decides {
                return Ok(value.unwrap_or(Data::Missing));
            }
        }
        last.or(value).ok_or_else(|| {
            let first = &command.operands[0];
            let message = format!("wrong number of args for {name}: want at least 1 got 0");
            self.error(first.at, first, message)
        })
    }

    /// Checks the arguments and runs a function; `whole` is what a failure of the function itself is told of.
    fn invoke(
        &self,
        named: &Operand,
        whole: &dyn std::fmt::Display,
        name: &str,
        function: Option<&'static Function>,
        arguments: Vec<Data>,
        operands: &[Operand],
    ) -> Value {
        let Some(function) = function else {
            let message = format!("wrong number of args for {name}: want at least 1 got 0");
            return Err(self.error(named.at, named, message));
        };
        let (got, want) = (arguments.len(), function.takes.len());
        let least = if function.more.is_some() {
            "at least "
        } else {
            ""
        };
        if got < want || (got > want && function.more.is_none()) {
            let message = format!("wrong number of args for {name}: want {least}{want} got {got}");
            return Err(self.error(named.at, named, message));
        }
        if self.rules.keeps_headings && functions::keeps_headings(name) {
            return Ok(arguments.into_iter().next().unwrap_or(Data::Missing));
        }
        for (number, argument) in arguments.iter().enumerate() {
            let takes = function.takes.get(number).copied().or(function.more);
            let at = operands.get(number).unwrap_or(named);
            self.check(at, takes.unwrap_or(Takes::Anything), argument)?;
        }
        (function.run)(&arguments).map_err(|message| {
            self.error(named.at, whole, format!("error calling {name}: {message}"))
        })
    }

    fn check(&self, operand: &Operand, takes: Takes, argument: &Data) -> Result<(), TemplateError> {
        let wanted = match takes {
            Takes::Anything => return Ok(()),
            Takes::Text => "string",
            Takes::Int => "int",
            Takes::Texts => "[]string",
        };
        let is_constant = matches!(
            operand.kind,
            OperandKind::Number { .. } | OperandKind::Text { .. } | OperandKind::Bool(_)
        );
        let message = match (takes, argument) {
            (Takes::Text, Data::Text(_)) | (Takes::Int, Data::Int(_)) => return Ok(()),
            (Takes::Texts, Data::List(_) | Data::Missing | Data::Nil(NilOf::List)) => return Ok(()),
            (_, Data::Missing) => format!("invalid value; expected {wanted}"),
            (Takes::Texts, _) if is_constant => {
                format!("can't handle {operand} for arg of type {wanted}")
            }
            (Takes::Int, _) if is_constant => format!("expected integer; found {operand}"),
            _ if is_constant => format!("expected {wanted}; found {operand}"),
            (_, Data::Nil(_)) => {
                format!("wrong type for value; expected {wanted}; got interface {{}}")
            }
            (_, other) => {
                format!(
                    "wrong type for value; expected {wanted}; got {}",
                    other.type_name()
                )
            }
        };
        Err(self.error(operand.at, operand, message))
    }
}

/// Returns a struct of texts.
pub(super) fn headings(fields: &[(&str, &str)]) -> Data {
    let field = |(name, heading): &(&str, &str)| ((*name).to_owned(), Data::text(heading));
    let fields: Rc<[_]> = fields.iter().map(field).collect();
    Data::Map(fields)
}
