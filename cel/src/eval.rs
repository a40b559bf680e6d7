//! Programs, and how they run: a walk over the tree that pays for what it does out of a budget.

use crate::ast::{Ast, Expr, Fold, FoldKind, Id, Issues, Item, Literal};
use crate::check::{Checked, Reference};
use crate::env::Env;
use crate::error::Error;
use crate::functions::{self, Call, Overload};
use crate::meter::{Authorizer, Meter, scan};
use crate::types::Type;
use crate::value::{Key, List, Map, Opaque, Text, Value};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Where a run gets the values of variables.
pub trait Activation<'a> {
    /// The variable at a place of the environment. Asked for each time it is named.
    fn variable(&self, index: usize) -> Result<Value<'a>, Error>;

    fn authorizer(&self) -> Option<&dyn Authorizer> {
        None
    }
}

/// Values of all variables, in the environment's order.
impl<'a> Activation<'a> for [Value<'a>] {
    fn variable(&self, index: usize) -> Result<Value<'a>, Error> {
        self.get(index).cloned().ok_or_else(|| Error::new("no such attribute"))
    }
}

/// A checked expression.
#[derive(Debug)]
pub struct Program {
    pub ast: Ast,
    pub checked: Checked,
    /// Regular expressions that are literals, compiled.
    patterns: BTreeMap<Id, regex::Regex>,
}

/// What a run came to, and what it cost.
pub struct Outcome<'a> {
    pub result: Result<Value<'a>, Error>,
    pub cost: u64,
}

impl Program {
    /// Parses and checks an expression.
    ///
    /// # Errors
    /// All that is wrong with it, as [`Issues`] shows it.
    pub fn compile(source: &str, env: &Env) -> Result<Program, Issues> {
        let ast = crate::parse::parse(source)?;
        let checked = crate::check::check(&ast, env)?;
        let patterns = checked.patterns(&ast);
        Ok(Program { ast, checked, patterns })
    }

    /// The type of its value.
    pub fn result(&self) -> &Type {
        self.checked.ty(self.ast.root)
    }

    /// Whether it names the variable anywhere.
    pub fn uses(&self, index: usize) -> bool {
        self.checked.references.contains(&Reference::Variable(index))
    }

    /// Runs it, for at most `cost_max`.
    pub fn run<'a, A: Activation<'a> + ?Sized>(&'a self, activation: &A, cost_max: u64) -> Outcome<'a> {
        let authorizer = activation.authorizer();
        let variable = |index| activation.variable(index);
        let mut run =
            Run { program: self, variable: &variable, locals: Vec::new(), meter: Meter::new(cost_max, authorizer) };
        let result = run.eval(self.ast.root);
        Outcome { result, cost: run.meter.spent }
    }
}

type Found<'a> = Result<Value<'a>, Error>;

struct Run<'r, 'a> {
    program: &'a Program,
    variable: &'r dyn Fn(usize) -> Found<'a>,
    /// Variables of macros, innermost last.
    locals: Vec<(&'a str, Value<'a>)>,
    meter: Meter<'r>,
}

impl<'a> Run<'_, 'a> {
    fn eval(&mut self, id: Id) -> Found<'a> {
        match self.program.ast.node(id) {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.ident(id, name),
            Expr::Select { operand, field, test } => self.select(id, *operand, field, *test),
            Expr::Call { name, target, args } => self.call(id, name, *target, args),
            Expr::And(terms) => self.logic(terms, false),
            Expr::Or(terms) => self.logic(terms, true),
            Expr::Conditional(condition, yes, no) => match self.eval(*condition)? {
                Value::Bool(true) => self.eval(*yes),
                Value::Bool(false) => self.eval(*no),
                _ => Err(Error::NoOverload),
            },
            Expr::List(items) => self.list(items),
            Expr::Map(entries) => self.map(entries),
            Expr::Struct { name, fields } => self.object(name, fields),
            Expr::Fold(fold) => self.fold(fold),
            Expr::OptMap { operand, var, body, flat } => self.opt_map(*operand, var, *body, *flat),
        }
    }

    fn ident(&mut self, id: Id, name: &'a str) -> Found<'a> {
        self.meter.pay(1)?;
        match self.program.checked.reference(id) {
            Reference::Variable(index) => (self.variable)(*index),
            Reference::Type(ty) => Ok(Value::Type(ty.clone())),
            Reference::None => {
                let local = self.locals.iter().rev().find(|(local, _)| *local == name);
                local.map(|(_, value)| value.clone()).ok_or_else(|| Error::new(format!("no such attribute: {name}")))
            }
        }
    }

    fn select(&mut self, id: Id, operand: Id, field: &'a str, test: bool) -> Found<'a> {
        if let Reference::Variable(index) = self.program.checked.reference(id) {
            self.meter.pay(1)?;
            let value = (self.variable)(*index);
            return if test { Ok(Value::Bool(value.is_ok())) } else { value };
        }
        if let Reference::Type(ty) = self.program.checked.reference(id) {
            return Ok(Value::Type(ty.clone()));
        }
        let value = self.eval(operand)?;
        if !test {
            self.meter.pay(1)?;
        }
        // An optional is looked into, and what comes out is optional again.
        if let Value::Optional(inner) = &value {
            let member = inner.as_ref().and_then(|inner| inner.member(field));
            return Ok(if test { Value::Bool(member.is_some()) } else { Value::Optional(member.map(Rc::new)) });
        }
        if !matches!(value, Value::Map(_) | Value::Struct(..)) {
            return Err(if matches!(value, Value::Null) { Error::no_key(field) } else { Error::NoOverload });
        }
        match value.member(field) {
            member if test => Ok(Value::Bool(member.is_some())),
            Some(member) => Ok(member),
            None => Err(Error::no_key(field)),
        }
    }

    /// `&&` (`decisive` false) and `||` (`decisive` true): a decisive term decides, whatever fails beside it.
    fn logic(&mut self, terms: &[Id], decisive: bool) -> Found<'a> {
        let mut failed = None;
        for term in terms {
            match self.eval(*term) {
                Ok(Value::Bool(b)) if b == decisive => return Ok(Value::Bool(b)),
                Ok(Value::Bool(_)) => {}
                Err(Error::OverBudget) => return Err(Error::OverBudget),
                Err(error) => failed = failed.or(Some(error)),
                Ok(_) => failed = failed.or(Some(Error::NoOverload)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    /// An element of a literal; none if it is optional and has no value.
    fn item(&mut self, item: &Item) -> Result<Option<Value<'a>>, Error> {
        match (self.eval(item.value)?, item.optional) {
            (value, false) => Ok(Some(value)),
            (Value::Optional(inner), true) => Ok(inner.map(|inner| (*inner).clone())),
            (_, true) => Err(Error::NoOverload),
        }
    }

    fn list(&mut self, items: &'a [Item]) -> Found<'a> {
        self.meter.pay(10)?;
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            list.extend(self.item(item)?);
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &'a [crate::ast::Entry]) -> Found<'a> {
        self.meter.pay(30)?;
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.eval(entry.key)?.key().ok_or_else(|| Error::new("unsupported key type"))?;
            let Some(value) = self.item(&entry.value)? else { continue };
            if map.contains_key(&key) {
                return Err(Error::new(format!("insert failed: key {key} already exists")));
            }
            map.insert(key, value);
        }
        Ok(Value::Map(Map::Made(map.into())))
    }

    fn object(&mut self, name: &str, fields: &'a [(crate::ast::Name, Item)]) -> Found<'a> {
        self.meter.pay(40)?;
        let mut members: BTreeMap<Rc<str>, Value<'a>> = BTreeMap::new();
        for (field, item) in fields {
            if let Some(value) = self.item(item)? {
                members.insert((&**field).into(), value);
            }
        }
        if name == "JSONPatch" {
            return functions::json_patch(&members).map(Value::opaque);
        }
        Ok(Value::Struct(name.into(), members.into()))
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> Found<'a> {
        let overloads = self.program.checked.overloads(id);
        let receiver = target.filter(|_| overloads.first().is_some_and(|o| o.member));
        let mut values: Vec<Value<'a>> = Vec::with_capacity(args.len() + 1);
        for arg in receiver.iter().chain(args) {
            values.push(self.eval(*arg)?);
        }
        match name {
            "_==_" | "_!=_" => {
                self.meter.pay(scan(values[0].weight().min(values[1].weight())))?;
                return Ok(Value::Bool(values[0].equals(&values[1]) == (name == "_==_")));
            }
            "matches" | "find" | "findAll" => {
                if let Some(pattern) = args.iter().find_map(|arg| self.program.patterns.get(arg)) {
                    self.meter.pay(functions::Cost::Regex.of(&values))?;
                    return functions::regex::with(name, pattern, &values, &mut self.meter);
                }
            }
            _ => {}
        }
        let fits = |o: &&&'static Overload| o.params.iter().zip(&values).all(|(param, value)| value.fits(param));
        let overload = overloads.iter().find(fits).ok_or(Error::NoOverload)?;
        self.meter.pay(overload.function.cost.of(&values))?;
        let Call(call) = overload.function.call;
        call(&mut self.meter, &values)
    }

    fn with<T>(&mut self, name: &'a str, value: Value<'a>, act: impl FnOnce(&mut Self) -> T) -> T {
        self.locals.push((name, value));
        let result = act(self);
        self.locals.pop();
        result
    }

    fn opt_map(&mut self, operand: Id, var: &'a str, body: Id, flat: bool) -> Found<'a> {
        let Value::Optional(inner) = self.eval(operand)? else { return Err(Error::NoOverload) };
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        let made = self.with(var, (*inner).clone(), |run| run.eval(body))?;
        Ok(if flat { made } else { Value::some(made) })
    }

    fn fold(&mut self, fold: &'a Fold) -> Found<'a> {
        let range = self.eval(fold.range)?;
        let mut state = Folded::new(fold.kind);
        self.meter.pay(state.start_cost())?;
        match &range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let Some(item) = list.get(index) else { break };
                    let (first, second) = match &fold.var2 {
                        Some(_) => (Value::Int(index as i64), Some(item)),
                        None => (item, None),
                    };
                    if self.step(fold, &mut state, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                self.meter.pay(scan(map.len() as u64))?;
                for (key, value) in map.entries() {
                    let second = fold.var2.is_some().then_some(value);
                    if self.step(fold, &mut state, key, second)? {
                        break;
                    }
                }
            }
            _ => return Err(Error::NoOverload),
        }
        state.end()
    }

    /// One item. True if the rest need not be looked at.
    fn step(
        &mut self,
        fold: &'a Fold,
        state: &mut Folded<'a>,
        first: Value<'a>,
        second: Option<Value<'a>>,
    ) -> Result<bool, Error> {
        self.meter.pay(state.step_cost())?;
        let depth = self.locals.len();
        self.locals.push((&fold.var, first.clone()));
        if let (Some(name), Some(value)) = (&fold.var2, second) {
            self.locals.push((name, value));
        }
        let done = self.step_in(fold, state, first);
        self.locals.truncate(depth);
        done
    }

    fn step_in(&mut self, fold: &'a Fold, state: &mut Folded<'a>, first: Value<'a>) -> Result<bool, Error> {
        if let Some(filter) = fold.filter {
            match self.eval(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(false),
                _ => return Err(Error::NoOverload),
            }
        }
        let made = match fold.body {
            Some(body) => self.eval(body),
            None => Ok(first.clone()),
        };
        if matches!(made, Err(Error::OverBudget)) {
            return made.map(|_| true);
        }
        match state {
            Folded::Quantified { decisive, failed, decided } => match made {
                Ok(Value::Bool(b)) if b == *decisive => *decided = true,
                Ok(Value::Bool(_)) => {}
                Ok(_) => *failed = failed.take().or(Some(Error::NoOverload)),
                Err(error) => *failed = failed.take().or(Some(error)),
            },
            Folded::Count(count) => match made? {
                Value::Bool(b) => *count += usize::from(b),
                _ => return Err(Error::NoOverload),
            },
            Folded::List(list) => list.push(made?),
            Folded::Map(map, entry) => {
                let made = made?;
                let key =
                    self.locals.iter().rev().find(|(name, _)| *name == &*fold.var).map_or(first, |(_, v)| v.clone());
                let new = match (entry, made) {
                    (false, value) => vec![(key, value)],
                    (true, Value::Map(entries)) => entries.entries(),
                    (true, _) => return Err(Error::NoOverload),
                };
                for (key, value) in new {
                    let key = key.key().ok_or_else(|| Error::new("unsupported key type"))?;
                    if map.contains_key(&key) {
                        return Err(Error::new(format!("insert failed: key {key} already exists")));
                    }
                    map.insert(key, value);
                }
            }
        }
        Ok(matches!(state, Folded::Quantified { decided: true, .. }))
    }
}

/// What a macro has gathered so far.
enum Folded<'a> {
    /// `all` and `exists`: an item decides, and failures count only if none does.
    Quantified {
        decisive: bool,
        failed: Option<Error>,
        decided: bool,
    },
    Count(usize),
    List(Vec<Value<'a>>),
    /// The flag: each item makes entries of its own.
    Map(BTreeMap<Key, Value<'a>>, bool),
}

impl<'a> Folded<'a> {
    fn new(kind: FoldKind) -> Folded<'a> {
        match kind {
            FoldKind::All => Folded::Quantified { decisive: false, failed: None, decided: false },
            FoldKind::Exists => Folded::Quantified { decisive: true, failed: None, decided: false },
            FoldKind::ExistsOne => Folded::Count(0),
            FoldKind::List => Folded::List(Vec::new()),
            FoldKind::Map => Folded::Map(BTreeMap::new(), false),
            FoldKind::MapEntry => Folded::Map(BTreeMap::new(), true),
        }
    }

    fn start_cost(&self) -> u64 {
        match self {
            Folded::Quantified { .. } | Folded::Count(_) => 1,
            Folded::List(_) => 11,
            Folded::Map(..) => 31,
        }
    }

    /// What the loop around the macro's own expressions costs each time. (cel-go's, of the loops its macros become.)
    fn step_cost(&self) -> u64 {
        match self {
            Folded::Quantified { .. } => 3,
            Folded::Count(_) => 1,
            Folded::List(_) => 12,
            Folded::Map(..) => 2,
        }
    }

    fn end(self) -> Found<'a> {
        match self {
            Folded::Quantified { decisive, decided: true, .. } => Ok(Value::Bool(decisive)),
            Folded::Quantified { failed: Some(error), .. } => Err(error),
            Folded::Quantified { decisive, .. } => Ok(Value::Bool(!decisive)),
            Folded::Count(count) => Ok(Value::Bool(count == 1)),
            Folded::List(list) => Ok(Value::List(List::Made(list.into()))),
            Folded::Map(map, _) => Ok(Value::Map(Map::Made(map.into()))),
        }
    }
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(n) => Value::Double(*n),
        Literal::String(text) => Value::String(Text::Borrowed(text)),
        Literal::Bytes(bytes) => Value::Bytes((**bytes).into()),
    }
}

/// The value of an `authorizer` variable.
pub fn authorizer<'a>() -> Value<'a> {
    Value::opaque(Opaque::Authorizer(None))
}
