//! Where in an object an error is: `spec.containers[0].name`, `metadata.annotations[foo]`.

use std::fmt;

/// A place in an object, as Status causes name it. The root is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn root() -> Self {
        Self::default()
    }

    /// A path from dotted members: `Path::new("spec.template")`.
    pub fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// The member `name` of the object here.
    pub fn child(&self, name: &str) -> Self {
        self.clone().then(Step::Member(name))
    }

    /// The item at a position of the list here.
    pub fn index(&self, index: usize) -> Self {
        self.clone().then(Step::Index(index))
    }

    /// The entry of the map here.
    pub fn key(&self, key: &str) -> Self {
        self.clone().then(Step::Key(key))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn then(mut self, step: Step<'_>) -> Self {
        step.append(&mut self.0);
        self
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Path {
        path.clone()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// One step of a path.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Member(&'a str),
    Index(usize),
    Key(&'a str),
}

impl Step<'_> {
    fn append(self, path: &mut String) {
        match self {
            Step::Member(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(index) => *path += &format!("[{index}]"),
            Step::Key(key) => *path += &format!("[{key}]"),
        }
    }
}

/// The places that a walk has gone on from, each by the one above it.
///
/// Validation looks at hundreds of places of an object and names hardly any. So a place is a number here, and a path is put together
/// only for an error. Grows with the places walked through and goes with the walk.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    places: Vec<Place>,
    /// Names of members and keys, one behind the other.
    names: String,
}

/// A place of a [`Trail`]. The root of every object is 0.
pub(super) type PlaceId = u32;

#[derive(Clone, Copy, Debug)]
struct Place {
    above: PlaceId,
    /// The position of an item, or where the name ends.
    number: usize,
    /// Where the name begins.
    start: usize,
    kind: PlaceKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PlaceKind {
    Member,
    Index,
    Key,
}

impl Trail {
    /// The place one step below `above`.
    pub fn enter(&mut self, above: PlaceId, step: Step<'_>) -> PlaceId {
        let start = self.names.len();
        let (kind, number) = match step {
            Step::Index(index) => (PlaceKind::Index, index),
            Step::Member(name) | Step::Key(name) => {
                self.names.push_str(name);
                let kind = if matches!(step, Step::Key(_)) { PlaceKind::Key } else { PlaceKind::Member };
                (kind, self.names.len())
            }
        };
        self.places.push(Place { above, number, start, kind });
        // Far fewer places than 2^32: a body is some megabytes.
        self.places.len() as PlaceId
    }

    /// The path of a place.
    pub fn path(&self, place: PlaceId) -> Path {
        let mut steps = Vec::new();
        let mut next = place;
        while let Some(at) = (next as usize).checked_sub(1).map(|i| self.places[i]) {
            steps.push(match at.kind {
                PlaceKind::Index => Step::Index(at.number),
                PlaceKind::Member => Step::Member(&self.names[at.start..at.number]),
                PlaceKind::Key => Step::Key(&self.names[at.start..at.number]),
            });
            next = at.above;
        }
        steps.into_iter().rev().fold(Path::root(), |path, step| path.then(step))
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
        assert_eq!(Path::new("a.b"), Path::root().child("a").child("b"));
    }

    #[test]
    fn a_trail_gives_the_path_of_each_of_its_places() {
        let mut trail = Trail::default();
        let spec = trail.enter(0, Step::Member("spec"));
        let port = trail.enter(spec, Step::Index(3));
        let label = trail.enter(spec, Step::Key("a/b"));
        let name = trail.enter(port, Step::Member("name"));
        let shown = [0, spec, label, name].map(|place| trail.path(place).as_str().to_owned());
        assert_eq!(shown, ["", "spec", "spec[a/b]", "spec[3].name"]);
    }
}
