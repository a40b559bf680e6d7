//! What an expression may name: variables with their types. Functions are the same everywhere.

use crate::types::Type;

/// A variable. Its place in the environment is how a run asks for its value.
#[derive(Clone, Debug)]
pub struct Variable {
    /// May be dotted: `authorizer.requestResource`, `variables.x`.
    pub name: String,
    pub ty: Type,
}

#[derive(Clone, Debug, Default)]
pub struct Env {
    pub variables: Vec<Variable>,
    /// Types that `Object{…}` makes may be named, and JSONPatch: the expressions of mutations.
    pub mutation: bool,
}

impl Env {
    pub fn new(variables: &[(&str, Type)]) -> Env {
        let variable = |(name, ty): &(&str, Type)| Variable { name: (*name).to_owned(), ty: ty.clone() };
        Env { variables: variables.iter().map(variable).collect(), mutation: false }
    }

    pub fn find(&self, name: &str) -> Option<(usize, &Variable)> {
        self.variables.iter().enumerate().find(|(_, variable)| variable.name == name)
    }
}
