//! Where in an object an error is: `spec.containers[0].name`, `metadata.annotations[foo]`.

use std::fmt;

/// A place in an object, as Status causes name it. The root is the empty path.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    pub fn root() -> Self {
        Self::default()
    }

    /// A path from dotted members: `Path::new("spec.template")`.
    pub fn new(path: &str) -> Self {
        Self(path.into())
    }

    /// The member `name` of the object here.
    pub fn child(&self, name: &str) -> Self {
        match self.0.as_str() {
            "" => Self(name.into()),
            parent => Self(format!("{parent}.{name}")),
        }
    }

    /// The item at a position of the list here.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry of the map here.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_causes_name_them() {
        let spec = Path::root().child("spec");
        assert_eq!(spec.child("containers").index(0).child("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("metadata.annotations").key("foo").to_string(), "metadata.annotations[foo]");
    }
}
