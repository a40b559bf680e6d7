//! The checker: gives every node its type and every call the overloads it can be, or says what is wrong where.

use crate::ast::{Ast, Expr, Fold, FoldKind, Id, Issue, Issues, Item, Literal, Name};
use crate::env::Env;
use crate::functions::{self, Overload};
use crate::parse::children;
use crate::types::{ListKind, ListType, ObjectType, Size, Type};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an expression is told of at most.
const ISSUES_MAX: usize = 100;

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reference {
    /// No variable of the environment: a variable of a macro, or not a name at all.
    #[default]
    None,
    /// A variable of the environment, by its place there.
    Variable(usize),
    Type(Type),
}

/// What is known of an expression's nodes, each at its place.
#[derive(Debug)]
pub struct Checked {
    types: Vec<Type>,
    pub references: Vec<Reference>,
    overloads: BTreeMap<Id, Vec<&'static Overload>>,
}

impl Checked {
    pub fn ty(&self, id: Id) -> &Type {
        &self.types[id as usize]
    }

    pub fn reference(&self, id: Id) -> &Reference {
        &self.references[id as usize]
    }

    /// The overloads that a call can be.
    pub fn overloads(&self, id: Id) -> &[&'static Overload] {
        self.overloads.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Patterns that are literals, compiled: [`check`] has seen that they are fine.
    pub(crate) fn patterns(&self, ast: &Ast) -> BTreeMap<Id, regex::Regex> {
        let mut patterns = BTreeMap::new();
        each_pattern(ast, |id, pattern| {
            if let Ok(regex) = functions::regex::compile(pattern) {
                patterns.insert(id, regex);
            }
        });
        patterns
    }
}

/// Checks an expression in an environment.
///
/// # Errors
/// Everything that is wrong: unknown names and fields, calls that no function takes, literals that never work.
pub fn check(ast: &Ast, env: &Env) -> Result<Checked, Issues> {
    let count = ast.nodes.len();
    let mut checker = Checker {
        ast,
        env,
        types: vec![Type::Dyn; count],
        references: vec![Reference::None; count],
        overloads: BTreeMap::new(),
        scope: Vec::new(),
        mixed: Vec::new(),
        bound: Vec::new(),
        issues: Vec::new(),
    };
    checker.visit(ast.root);
    checker.literals();
    if !checker.issues.is_empty() {
        let mut list = checker.issues;
        list.sort_by_key(|issue| issue.offset);
        return Err(Issues { source: ast.source.clone(), list });
    }
    let types = checker.types.iter().map(|ty| checker.resolve(ty)).collect();
    Ok(Checked { types, references: checker.references, overloads: checker.overloads })
}

struct Checker<'c> {
    ast: &'c Ast,
    env: &'c Env,
    types: Vec<Type>,
    references: Vec<Reference>,
    overloads: BTreeMap<Id, Vec<&'static Overload>>,
    /// Variables of macros, innermost last.
    scope: Vec<(Name, Type)>,
    /// List literals whose items may be of several types: the arguments of `format`.
    mixed: Vec<Id>,
    /// What each type variable stands for, once that is known.
    bound: Vec<Option<Type>>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, id: Id, message: impl Into<String>) -> Type {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(Issue { offset: Some(self.ast.offsets[id as usize]), message: message.into() });
        }
        Type::Dyn
    }

    fn visit(&mut self, id: Id) -> Type {
        let ty = match self.ast.node(id) {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.ident(id, name),
            Expr::Select { operand, field, test } => self.select(id, *operand, field, *test),
            Expr::Call { name, target, args } => self.call(id, name, *target, args),
            Expr::And(terms) => self.logic(id, terms, "_&&_"),
            Expr::Or(terms) => self.logic(id, terms, "_||_"),
            Expr::Conditional(condition, yes, no) => {
                let (condition, yes, no) = (self.visit(*condition), self.visit(*yes), self.visit(*no));
                if !self.unify(&Type::Bool, &condition) || !self.unify(&yes, &no) {
                    return self.no_overload(id, "_?_:_", None, &[condition, yes, no]);
                }
                self.larger(yes, no)
            }
            Expr::List(items) => {
                let mixed = self.mixed.contains(&id);
                if mixed {
                    self.mixed.extend(items.iter().map(|item| item.value));
                }
                let mut item = if mixed { Type::Dyn } else { self.fresh() };
                for element in items {
                    item = self.element(element, item);
                }
                Type::List(Arc::new(ListType { item, kind: ListKind::Atomic }), Size(items.len() as u64))
            }
            Expr::Map(entries) => {
                let (mut key, mut value) = (self.fresh(), self.fresh());
                for entry in entries {
                    key = self.element(&Item { value: entry.key, optional: false }, key);
                    value = self.element(&entry.value, value);
                }
                Type::Map(Arc::new((key, value)), Size(entries.len() as u64))
            }
            Expr::Struct { name, fields } => self.object(id, name, fields),
            Expr::Fold(fold) => self.fold(id, fold),
            Expr::OptMap { operand, var, body, flat } => {
                let operand = self.visit(*operand);
                let inner = self.fresh();
                if !self.unify(&Type::optional(inner.clone()), &operand) {
                    return self.no_overload(id, if *flat { "optFlatMap" } else { "optMap" }, Some(&operand), &[]);
                }
                self.scope.push((var.clone(), inner));
                let made = self.visit(*body);
                self.scope.pop();
                if !*flat { Type::optional(made) } else { made }
            }
        };
        self.types[id as usize] = ty.clone();
        ty
    }

    /// An element of a list or map literal: all are of one type.
    fn element(&mut self, element: &Item, expected: Type) -> Type {
        let mut ty = self.visit(element.value);
        if element.optional {
            let inner = self.fresh();
            if !self.unify(&Type::optional(inner.clone()), &ty) {
                return self.issue(
                    element.value,
                    format!("expected type 'optional_type(dyn)' but found '{}'", self.shown(&ty)),
                );
            }
            ty = inner;
        }
        if !self.unify(&expected, &ty) {
            let message = format!("expected type '{}' but found '{}'", self.shown(&expected), self.shown(&ty));
            return self.issue(element.value, message);
        }
        self.larger(expected, ty)
    }

    fn ident(&mut self, id: Id, name: &Name) -> Type {
        if let Some((_, ty)) = self.scope.iter().rev().find(|(local, _)| local == name) {
            return ty.clone();
        }
        self.global(id, name)
            .unwrap_or_else(|| self.issue(id, format!("undeclared reference to '{name}' (in container '')")))
    }

    /// A variable or type of the environment.
    fn global(&mut self, id: Id, name: &str) -> Option<Type> {
        if let Some((index, variable)) = self.env.find(name) {
            self.references[id as usize] = Reference::Variable(index);
            return Some(variable.ty.clone());
        }
        let named = Type::named(name).filter(|_| TYPE_NAMES.contains(&name))?;
        self.references[id as usize] = Reference::Type(named.clone());
        Some(Type::Type(named.into()))
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test: bool) -> Type {
        // A dotted name may be one variable; a variable of a macro hides those.
        if let Some(dotted) = self.ast.dotted(operand) {
            let root = dotted.split('.').next().unwrap_or("");
            if !self.scope.iter().any(|(local, _)| **local == *root)
                && let Some(ty) = self.global(id, &format!("{dotted}.{field}"))
            {
                return if test { Type::Bool } else { ty };
            }
        }
        let of = self.visit(operand);
        let ty = self.field(id, &of, field);
        if test { Type::Bool } else { ty }
    }

    fn field(&mut self, id: Id, of: &Type, field: &str) -> Type {
        match self.resolve(of) {
            Type::Dyn | Type::Param(_) => Type::Dyn,
            Type::Map(map, _) => map.1.clone(),
            Type::Optional(inner) => match self.field(id, &inner, field) {
                already @ Type::Optional(_) => already,
                ty => Type::optional(ty),
            },
            Type::Object(object) => match object.fields.get(field) {
                Some(field) => field.ty.clone(),
                None if object.open => Type::Dyn,
                None => self.issue(id, format!("undefined field '{field}'")),
            },
            ty => self.issue(id, format!("type '{ty}' does not support field selection")),
        }
    }

    fn logic(&mut self, id: Id, terms: &[Id], name: &str) -> Type {
        let types: Vec<Type> = terms.iter().map(|term| self.visit(*term)).collect();
        let wrong = types.iter().position(|ty| !self.unify(&Type::Bool, ty));
        match wrong {
            None => Type::Bool,
            // Upstream's operator has two terms: those around the one that does not fit.
            Some(at) => {
                let first = at.saturating_sub(1);
                self.no_overload(id, name, None, &types[first..(first + 2).min(types.len())])
            }
        }
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> Type {
        if name == "_?._" {
            return self.optional_select(id, args);
        }
        // A method of a name that is a namespace is a function: `sets.contains(a, b)`.
        let qualified = target.and_then(|target| self.ast.dotted(target)).map(|space| format!("{space}.{name}"));
        let qualified = qualified.filter(|q| {
            let root = q.split('.').next().unwrap_or("");
            !self.scope.iter().any(|(local, _)| **local == *root) && !functions::overloads(q).is_empty()
        });
        let (overloads, receiver, called) = match &qualified {
            Some(qualified) => (functions::overloads(qualified), None, qualified.as_str()),
            None => (functions::overloads(name), target, name),
        };
        if overloads.is_empty() {
            target.iter().chain(args).for_each(|id| drop(self.visit(*id)));
            return self.issue(id, format!("undeclared reference to '{name}' (in container '')"));
        }
        if called == "format" {
            self.mixed.extend(args);
        }
        let before = self.issues.len();
        let types: Vec<Type> = receiver.iter().chain(args).map(|arg| self.visit(*arg)).collect();
        if self.issues.len() > before {
            return Type::Dyn; // one mistake is told once
        }
        let mut found: Vec<&'static Overload> = Vec::new();
        let mut result: Option<Type> = None;
        for overload in overloads {
            if overload.member != receiver.is_some() || overload.params.len() != types.len() {
                continue;
            }
            let first = self.bound.len() as u32;
            let saved = self.bound.clone();
            self.bound.extend(std::iter::repeat_n(None, 4));
            let fits = overload.params.iter().zip(&types).all(|(param, ty)| self.unify(&renamed(param, first), ty));
            if !fits {
                self.bound = saved;
                continue;
            }
            let of_this = self.resolve(&renamed(&overload.result, first));
            result = Some(match result {
                Some(before) if before == of_this => before,
                Some(_) => Type::Dyn,
                None => of_this,
            });
            found.push(overload);
        }
        let Some(result) = result else {
            let (receiver, args) = types.split_at(usize::from(receiver.is_some()));
            return self.no_overload(id, called, receiver.first(), args);
        };
        let sized = self.sized(&found, result, &types);
        self.overloads.insert(id, found);
        sized
    }

    /// Gives the result of a call the size it can have at most.
    fn sized(&self, found: &[&'static Overload], result: Type, types: &[Type]) -> Type {
        let types: Vec<Type> = types.iter().map(|ty| self.resolve(ty)).collect();
        let of: Vec<u64> = types.iter().map(Type::size).collect();
        let items: Vec<u64> = types.iter().map(item_size).collect();
        let sizes = functions::Sizes { of: &of, items: &items };
        let size = found.iter().map(|o| o.function.growth.size(&sizes, result.size())).max().unwrap_or(u64::MAX);
        match result {
            Type::String(_) => Type::String(Size(size)),
            Type::Bytes(_) => Type::Bytes(Size(size)),
            Type::List(list, _) => Type::List(list, Size(size)),
            Type::Map(map, _) => Type::Map(map, Size(size)),
            other => other,
        }
    }

    fn optional_select(&mut self, id: Id, args: &[Id]) -> Type {
        self.overloads.insert(id, functions::overloads("_?._").iter().collect());
        let of = self.visit(args[0]);
        self.visit(args[1]);
        let field = self.ast.string(args[1]).unwrap_or("").to_owned();
        match self.field(args[1], &of, &field) {
            already @ Type::Optional(_) => already,
            ty => Type::optional(ty),
        }
    }

    fn object(&mut self, id: Id, name: &Name, fields: &[(Name, Item)]) -> Type {
        for (_, item) in fields {
            let ty = self.visit(item.value);
            if item.optional && !matches!(self.resolve(&ty), Type::Optional(_) | Type::Dyn) {
                self.issue(item.value, format!("expected type 'optional_type(dyn)' but found '{}'", self.shown(&ty)));
            }
        }
        let known = self.env.mutation && (**name == *"Object" || name.starts_with("Object.") || **name == *"JSONPatch");
        if !known {
            return self.issue(id, format!("undeclared reference to '{name}' (in container '')"));
        }
        if **name == *"JSONPatch" {
            for (field, _) in fields.iter().filter(|(field, _)| !["op", "path", "from", "value"].contains(&&**field)) {
                self.issue(id, format!("undefined field '{field}'"));
            }
            return Type::Opaque("JSONPatch");
        }
        // A field holds an object of the type that is named after the way there.
        for (field, item) in fields {
            if let Type::Object(of) = self.resolve(&self.types[item.value as usize].clone())
                && of.name.starts_with("Object")
                && of.name != format!("{name}.{field}")
            {
                let message =
                    format!("expected type of field '{field}' is '{name}.{field}' but provided type is '{}'", of.name);
                self.issue(item.value, message);
            }
        }
        Type::Object(Arc::new(ObjectType { name: name.to_string(), open: true, ..ObjectType::default() }))
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> Type {
        let range = self.visit(fold.range);
        let (first, second) = match self.resolve(&range) {
            Type::List(list, _) if fold.var2.is_some() => (Type::Int, list.item.clone()),
            Type::List(list, _) => (list.item.clone(), Type::Dyn),
            Type::Map(map, _) => (map.0.clone(), map.1.clone()),
            Type::Dyn | Type::Param(_) => (Type::Dyn, Type::Dyn),
            ty => {
                let message = format!(
                    "expression of type '{ty}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.issue(fold.range, message), Type::Dyn)
            }
        };
        let depth = self.scope.len();
        self.scope.push((fold.var.clone(), first.clone()));
        self.scope.extend(fold.var2.iter().map(|var| (var.clone(), second.clone())));
        let filter = fold.filter.map(|filter| self.visit(filter));
        let body = fold.body.map(|body| self.visit(body));
        self.scope.truncate(depth);

        if let Some(filter) = filter.filter(|filter| !self.unify(&Type::Bool, filter)) {
            return self.no_overload(id, "_?_:_", None, &[filter, Type::list(Type::Dyn), Type::list(Type::Dyn)]);
        }
        let size = Size(self.resolve(&range).size());
        match (fold.kind, body) {
            (FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne, body) => {
                let body = body.unwrap_or(Type::Bool);
                if self.unify(&Type::Bool, &body) {
                    return Type::Bool;
                }
                match fold.kind {
                    FoldKind::All => self.no_overload(id, "_&&_", None, &[Type::Bool, body]),
                    FoldKind::Exists => self.no_overload(id, "_||_", None, &[Type::Bool, body]),
                    _ => self.no_overload(id, "_?_:_", None, &[body, Type::Int, Type::Int]),
                }
            }
            (FoldKind::List, body) => {
                let item = body.unwrap_or(first);
                Type::List(Arc::new(ListType { item, kind: ListKind::Atomic }), size)
            }
            (FoldKind::Map, body) => {
                let key = if matches!(self.resolve(&range), Type::List(..)) { Type::Int } else { first };
                Type::Map(Arc::new((key, body.unwrap_or(Type::Dyn))), size)
            }
            (FoldKind::MapEntry, body) => {
                let (key, value) = (self.fresh(), self.fresh());
                let entry = Type::map(key.clone(), value.clone());
                let body = body.unwrap_or(Type::Dyn);
                if !self.unify(&entry, &body) {
                    return self.no_overload(id, "cel.@mapInsert", None, &[Type::map(Type::Dyn, Type::Dyn), body]);
                }
                Type::Map(Arc::new((key, value)), size)
            }
        }
    }

    fn no_overload(&mut self, id: Id, name: &str, receiver: Option<&Type>, args: &[Type]) -> Type {
        let args: Vec<String> = args.iter().map(|arg| self.shown(arg)).collect();
        let receiver = receiver.map_or(String::new(), |ty| format!("{}.", self.shown(ty)));
        self.issue(id, format!("found no matching overload for '{name}' applied to '{receiver}({})'", args.join(", ")))
    }

    fn shown(&self, ty: &Type) -> String {
        self.resolve(ty).to_string()
    }

    // Type variables.

    fn fresh(&mut self) -> Type {
        self.bound.push(None);
        Type::Param((self.bound.len() - 1) as u32)
    }

    /// The type with all variables that are known replaced.
    fn resolve(&self, ty: &Type) -> Type {
        match ty {
            Type::Param(n) => match self.bound.get(*n as usize) {
                Some(Some(bound)) => self.resolve(bound),
                _ => ty.clone(),
            },
            Type::List(list, size) if has_param(&list.item) => {
                Type::List(Arc::new(ListType { item: self.resolve(&list.item), kind: list.kind.clone() }), *size)
            }
            Type::Map(map, size) if has_param(&map.0) || has_param(&map.1) => {
                Type::Map(Arc::new((self.resolve(&map.0), self.resolve(&map.1))), *size)
            }
            Type::Optional(inner) if has_param(inner) => Type::optional(self.resolve(inner)),
            Type::Type(inner) if has_param(inner) => Type::Type(self.resolve(inner).into()),
            ty => ty.clone(),
        }
    }

    /// Whether a value of type `from` can stand where `to` is expected; binds type variables to make it so.
    fn unify(&mut self, to: &Type, from: &Type) -> bool {
        let (to, from) = (self.resolve(to), self.resolve(from));
        match (&to, &from) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (Type::Param(n), ty) | (ty, Type::Param(n)) => {
                let free = !mentions(ty, *n);
                if free {
                    self.bound[*n as usize] = Some(ty.clone());
                }
                free
            }
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null | Type::Duration | Type::Timestamp | Type::Object(_) | Type::Opaque(_) | Type::Optional(_)
            ),
            (Type::List(a, _), Type::List(b, _)) => self.unify(&a.item, &b.item),
            (Type::Map(a, _), Type::Map(b, _)) => self.unify(&a.0, &b.0) && self.unify(&a.1, &b.1),
            (Type::Optional(a), Type::Optional(b)) => self.unify(a, b),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Of two types that are the same, the one whose values can be larger.
    fn larger(&self, a: Type, b: Type) -> Type {
        let (a, b) = (self.resolve(&a), self.resolve(&b));
        match (&a, &b) {
            (Type::Dyn, _) | (_, Type::Dyn) => Type::Dyn,
            (Type::Null, _) => b,
            _ if b.size() > a.size() || item_size(&b) > item_size(&a) => match (&a, b) {
                (Type::List(one, n), Type::List(other, m)) => {
                    let item = self.larger(one.item.clone(), other.item.clone());
                    Type::List(Arc::new(ListType { item, kind: one.kind.clone() }), Size(n.0.max(m.0)))
                }
                (_, b) => b,
            },
            _ => a,
        }
    }

    /// Literals that could only fail: patterns, durations, times.
    fn literals(&mut self) {
        let mut wrong = Vec::new();
        each_pattern(self.ast, |id, pattern| {
            if let Err(why) = functions::regex::compile(pattern) {
                wrong.push((id, format!("invalid matches argument: {why}")));
            }
        });
        for expr in &self.ast.nodes {
            let Expr::Call { name, target: None, args } = expr else { continue };
            let [arg] = args.as_slice() else { continue };
            let Some(text) = self.ast.string(*arg) else { continue };
            let fine = match &**name {
                "duration" => crate::time::parse_duration(text).is_some(),
                "timestamp" => crate::time::parse_timestamp(text).is_some(),
                _ => true,
            };
            if !fine {
                wrong.push((*arg, format!("invalid {name} argument")));
            }
        }
        wrong.into_iter().for_each(|(id, message)| drop(self.issue(id, message)));
    }
}

/// Names of types that are values: `type(x) == int`.
const TYPE_NAMES: [&str; 15] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "dyn",
    "net.IP",
    "net.CIDR",
    "google.protobuf.Duration",
    "google.protobuf.Timestamp",
];

fn each_pattern(ast: &Ast, mut each: impl FnMut(Id, &str)) {
    for expr in &ast.nodes {
        let Expr::Call { name, target, args } = expr else { continue };
        let pattern = match (&**name, target, args.as_slice()) {
            ("matches" | "find" | "findAll", Some(_), [pattern, ..]) | ("matches", None, [_, pattern]) => *pattern,
            _ => continue,
        };
        if let Some(text) = ast.string(pattern) {
            each(pattern, text);
        }
    }
}

/// The size of a list's items; of anything else 1.
pub(crate) fn item_size(ty: &Type) -> u64 {
    match ty {
        Type::List(list, _) => list.item.size(),
        Type::Dyn => u64::MAX,
        _ => 1,
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(text) => Type::String(Size(text.len() as u64)),
        Literal::Bytes(bytes) => Type::Bytes(Size(bytes.len() as u64)),
    }
}

fn has_param(ty: &Type) -> bool {
    match ty {
        Type::Param(_) => true,
        Type::List(list, _) => has_param(&list.item),
        Type::Map(map, _) => has_param(&map.0) || has_param(&map.1),
        Type::Optional(inner) | Type::Type(inner) => has_param(inner),
        _ => false,
    }
}

fn mentions(ty: &Type, n: u32) -> bool {
    match ty {
        Type::Param(m) => *m == n,
        Type::List(list, _) => mentions(&list.item, n),
        Type::Map(map, _) => mentions(&map.0, n) || mentions(&map.1, n),
        Type::Optional(inner) | Type::Type(inner) => mentions(inner, n),
        _ => false,
    }
}

/// A signature's type with its variables made those from `first` on.
fn renamed(ty: &Type, first: u32) -> Type {
    match ty {
        Type::Param(n) => Type::Param(first + n),
        Type::List(list, size) => {
            Type::List(Arc::new(ListType { item: renamed(&list.item, first), kind: list.kind.clone() }), *size)
        }
        Type::Map(map, size) => Type::Map(Arc::new((renamed(&map.0, first), renamed(&map.1, first))), *size),
        Type::Optional(inner) => Type::optional(renamed(inner, first)),
        Type::Type(inner) => Type::Type(renamed(inner, first).into()),
        ty => ty.clone(),
    }
}

/// Whether an expression names any of some identifiers free, for those who look before an environment is there.
pub fn names(ast: &Ast, wanted: &str) -> bool {
    let mut todo = vec![ast.root];
    while let Some(id) = todo.pop() {
        let expr = ast.node(id);
        if matches!(expr, Expr::Ident(name) if **name == *wanted) {
            return true;
        }
        children(expr, |child| todo.push(child));
    }
    false
}
