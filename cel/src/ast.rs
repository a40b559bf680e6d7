//! An expression as a tree. Nodes lie in one array and name each other by position, so that no drop and no clone recurses.

use std::fmt;
use std::sync::Arc;

/// A node's place in [`Ast::nodes`].
pub type Id = u32;
pub type Name = Arc<str>;

#[derive(Clone, Debug)]
pub struct Ast {
    pub source: Arc<str>,
    pub nodes: Vec<Expr>,
    /// Where each node stands: a position in characters of the source.
    pub offsets: Vec<u32>,
    pub root: Id,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub enum Expr {
    Literal(Literal),
    Ident(Name),
    Select {
        operand: Id,
        field: Name,
        /// `has(operand.field)`
        test: bool,
    },
    /// Functions and operators; an operator's name is that of its arguments' places: `_+_`.
    Call {
        name: Name,
        target: Option<Id>,
        args: Vec<Id>,
    },
    And(Vec<Id>),
    Or(Vec<Id>),
    Conditional(Id, Id, Id),
    List(Vec<Item>),
    Map(Vec<Entry>),
    Struct {
        name: Name,
        fields: Vec<(Name, Item)>,
    },
    Fold(Box<Fold>),
    /// `operand.optMap(var, body)` and, where the body itself is optional, `optFlatMap`.
    OptMap {
        operand: Id,
        var: Name,
        body: Id,
        flat: bool,
    },
}

/// An element of a literal; an optional one (`?x`) is left out if it has no value.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub value: Id,
    pub optional: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub key: Id,
    pub value: Item,
}

/// A macro that looks at each item of a list or map.
#[derive(Clone, Debug)]
pub struct Fold {
    pub kind: FoldKind,
    pub range: Id,
    /// The item of a list or key of a map; with a second variable the index or key.
    pub var: Name,
    /// The item or value.
    pub var2: Option<Name>,
    /// What must hold for an item to count.
    pub filter: Option<Id>,
    /// What is made of it.
    pub body: Option<Id>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// `filter`, `map`, `transformList`: a list comes out.
    List,
    /// `transformMap`: the values change.
    Map,
    /// `transformMapEntry`: each item makes an entry.
    MapEntry,
}

impl Ast {
    pub fn node(&self, id: Id) -> &Expr {
        &self.nodes[id as usize]
    }

    /// The dotted name that an expression spells: `a.b.c`.
    pub fn dotted(&self, id: Id) -> Option<String> {
        match self.node(id) {
            Expr::Ident(name) => Some(name.to_string()),
            Expr::Select { operand, field, test: false } => Some(format!("{}.{field}", self.dotted(*operand)?)),
            _ => None,
        }
    }

    /// The string that an expression is, if it is a literal.
    pub fn string(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Expr::Literal(Literal::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// Something wrong with the text of an expression, at a place in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue {
    /// In characters from the start; none if it is about the whole.
    pub offset: Option<u32>,
    pub message: String,
}

/// All that is wrong, shown as users of CEL know it: `ERROR: <input>:1:5: undefined field 'x'` and the line below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Issues {
    pub source: Arc<str>,
    pub list: Vec<Issue>,
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let Some(offset) = issue.offset else {
                write!(f, "ERROR: <input>:-1:0: {}", issue.message)?;
                continue;
            };
            let (mut line, mut column) = (1, 0);
            for c in self.source.chars().take(offset as usize) {
                (line, column) = if c == '\n' { (line + 1, 0) } else { (line, column + 1) };
            }
            write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
            if let Some(text) = self.source.split('\n').nth(line - 1) {
                write!(f, "\n | {text}\n | {}^", ".".repeat(column))?;
            }
        }
        Ok(())
    }
}
