//! What a run of an expression can cost at most, estimated from the sizes its types allow. The rules are upstream's, because the
//! estimate decides which rules a CustomResourceDefinition may hold.

use crate::ast::{Expr, Fold, FoldKind, Id};
use crate::check::item_size;
use crate::eval::Program;
use crate::functions::Sizes;
use crate::meter::scan;
use crate::types::Type;

/// The most that a run can cost, in units of a simple operation; `u64::MAX` if there is no bound.
pub fn estimate(program: &Program) -> u64 {
    of(program, program.ast.root)
}

fn all(program: &Program, ids: impl IntoIterator<Item = Id>) -> u64 {
    ids.into_iter().fold(0, |sum: u64, id| sum.saturating_add(of(program, id)))
}

fn of(program: &Program, id: Id) -> u64 {
    let ty = |id: Id| program.checked.ty(id);
    match program.ast.node(id) {
        Expr::Literal(_) => 0,
        Expr::Ident(_) => 1,
        // A presence test costs what its operand costs, and so does a field of what can't be walked into.
        Expr::Select { operand, test, .. } => {
            if program.checked.reference(id) != &crate::check::Reference::None {
                return 2;
            }
            let walked = matches!(ty(*operand), Type::Map(..) | Type::Object(_) | Type::Dyn | Type::Optional(_));
            of(program, *operand).saturating_add(u64::from(walked && !test))
        }
        Expr::Call { name, target, args } => call(program, id, name, *target, args),
        Expr::And(terms) | Expr::Or(terms) => all(program, terms.iter().copied()),
        Expr::Conditional(condition, yes, no) => {
            of(program, *condition).saturating_add(of(program, *yes).max(of(program, *no)))
        }
        Expr::List(items) => all(program, items.iter().map(|item| item.value)).saturating_add(10),
        Expr::Map(entries) => {
            all(program, entries.iter().flat_map(|entry| [entry.key, entry.value.value])).saturating_add(30)
        }
        Expr::Struct { fields, .. } => all(program, fields.iter().map(|(_, item)| item.value)).saturating_add(40),
        Expr::Fold(fold) => self::fold(program, fold),
        Expr::OptMap { operand, body, .. } => all(program, [*operand, *body]).saturating_add(3),
    }
}

fn call(program: &Program, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> u64 {
    let overloads = program.checked.overloads(id);
    let receiver = target.filter(|_| overloads.first().is_some_and(|o| o.member));
    let operands: Vec<Id> = receiver.into_iter().chain(args.iter().copied()).collect();
    let sum = all(program, operands.iter().copied());
    let types: Vec<&Type> = operands.iter().map(|id| program.checked.ty(*id)).collect();
    let of: Vec<u64> = types.iter().map(|ty| ty.size()).collect();
    // Only strings and bytes make comparing the items of a list dearer.
    let item = |ty: &&Type| match ty {
        Type::List(list, _) if matches!(list.item, Type::String(_) | Type::Bytes(_)) => item_size(ty),
        _ => 1,
    };
    let items: Vec<u64> = types.iter().map(item).collect();
    let sizes = Sizes { of: &of, items: &items };
    let dearest = match name {
        "_==_" | "_!=_" => scan(of.iter().copied().min().unwrap_or(1)),
        "_?._" => 1,
        _ => overloads.iter().map(|overload| overload.function.cost.price(&sizes)).max().unwrap_or(1),
    };
    sum.saturating_add(dearest)
}

/// Each macro costs what the loop costs that it is short for.
fn fold(program: &Program, fold: &Fold) -> u64 {
    let (around, each) = match fold.kind {
        FoldKind::All => (1, 4),
        FoldKind::Exists => (1, 5),
        FoldKind::ExistsOne => (2, 2),
        FoldKind::List => (11, 12),
        FoldKind::Map | FoldKind::MapEntry => (31, 2),
    };
    let once = all(program, fold.filter.iter().chain(&fold.body).copied())
        .saturating_add(each)
        .saturating_add(u64::from(fold.body.is_none()));
    let range = program.checked.ty(fold.range).size();
    of(program, fold.range).saturating_add(around).saturating_add(range.saturating_mul(once))
}
