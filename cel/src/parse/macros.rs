//! Macros: calls that the parser turns into something else, because their arguments are no values.

use super::{Parsed, Parser};
use crate::ast::{Expr, Fold, FoldKind, Id, Issue, Name};

/// Macros on lists and maps: name, how many variables, whether a filter and whether a body follow them.
const FOLDS: [(&str, FoldKind, usize, bool, bool); 17] = [
    ("all", FoldKind::All, 1, false, true),
    ("all", FoldKind::All, 2, false, true),
    ("exists", FoldKind::Exists, 1, false, true),
    ("exists", FoldKind::Exists, 2, false, true),
    ("exists_one", FoldKind::ExistsOne, 1, false, true),
    ("exists_one", FoldKind::ExistsOne, 2, false, true),
    ("existsOne", FoldKind::ExistsOne, 1, false, true),
    ("existsOne", FoldKind::ExistsOne, 2, false, true),
    ("map", FoldKind::List, 1, false, true),
    ("map", FoldKind::List, 1, true, true),
    ("filter", FoldKind::List, 1, true, false),
    ("transformList", FoldKind::List, 2, false, true),
    ("transformList", FoldKind::List, 2, true, true),
    ("transformMap", FoldKind::Map, 2, false, true),
    ("transformMap", FoldKind::Map, 2, true, true),
    ("transformMapEntry", FoldKind::MapEntry, 2, false, true),
    ("transformMapEntry", FoldKind::MapEntry, 2, true, true),
];

impl Parser {
    /// What a call is, if it is a macro.
    pub(super) fn expand(&mut self, offset: u32, name: &str, target: Option<Id>, args: &[Id]) -> Parsed<Option<Id>> {
        let expr = match (name, target, args) {
            ("has", None, [arg]) => match &self.nodes[*arg as usize] {
                Expr::Select { operand, field, test: false } => {
                    Expr::Select { operand: *operand, field: field.clone(), test: true }
                }
                _ => return Err(Issue { offset: Some(offset), message: "invalid argument to has() macro".into() }),
            },
            ("optMap" | "optFlatMap", Some(operand), [var, body]) => {
                Expr::OptMap { operand, var: self.variable(*var)?, body: *body, flat: name == "optFlatMap" }
            }
            (_, Some(range), args) => {
                let fits = |vars, filter, body| vars + usize::from(filter) + usize::from(body) == args.len();
                let of = FOLDS.iter().find(|(n, _, vars, filter, body)| *n == name && fits(*vars, *filter, *body));
                let Some((_, kind, vars, filter, body)) = of else {
                    return Ok(None);
                };
                let var2 = if *vars == 2 { Some(self.variable(args[1])?) } else { None };
                let (var, rest) = (self.variable(args[0])?, &args[*vars..]);
                if var2.as_ref() == Some(&var) {
                    return Err(self.misnamed(args[1], "duplicate variable name"));
                }
                let fold = Fold {
                    kind: *kind,
                    range,
                    var,
                    var2,
                    filter: filter.then(|| rest[0]),
                    body: body.then(|| rest[usize::from(*filter)]),
                };
                Expr::Fold(Box::new(fold))
            }
            _ => return Ok(None),
        };
        self.node(offset, expr).map(Some)
    }

    fn misnamed(&self, id: Id, message: &str) -> Issue {
        Issue { offset: Some(self.offsets[id as usize]), message: message.into() }
    }

    fn variable(&self, id: Id) -> Parsed<Name> {
        match &self.nodes[id as usize] {
            Expr::Ident(name) => Ok(name.clone()),
            _ => Err(self.misnamed(id, "argument must be a simple name")),
        }
    }
}
