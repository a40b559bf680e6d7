//! What is special to a kind, as data: a table of functions with harmless defaults.
//!
//! Everything a kind shares with others (names, uids, generation, status kept apart from spec, managed fields, finalizers) is done
//! by the generic store. A kind's file holds one `pub const STRATEGY: Strategy = Strategy { …, ..Strategy::GENERIC };`.
//!
//! All functions see objects in the normal form of the version the row is of. They are pure: what they need of the outside
//! comes in through [`Context`].

use apimachinery::Value;
use apimachinery::validation::Cursor;
use request::User;

/// What a write is about, for the few rules that depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who asks.
    pub user: &'a User,
    /// RFC 3339, to the second, UTC.
    pub now: &'a str,
    /// Whether a new object came with labels of its own.
    pub labelled: bool,
}

/// A member of an object that field selectors may name, besides `metadata.name` and `metadata.namespace`.
pub struct SelectableField {
    /// As it stands in the selector: `spec.nodeName`.
    pub name: &'static str,
    pub value: fn(&Value) -> String,
}

/// A column of the server-side table. Columns of every kind start with a name and mostly end with an age.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date` or `boolean`.
    pub kind: &'static str,
    /// `name` for the first column.
    pub format: &'static str,
    /// 0 is always shown, higher only with `-o wide`.
    pub priority: i32,
    /// A text; or, where it begins with a dot, the path of the field whose documentation it is (`.spec.nodeName`), in the version
    /// that is stored.
    pub description: &'static str,
}

impl Column {
    pub const fn text(name: &'static str, priority: i32, description: &'static str) -> Self {
        Column { name, kind: "string", format: "", priority, description }
    }
}

/// How one object becomes a row: the cells under [`Table::columns`], given the object and the time now (seconds since the epoch).
pub struct Table {
    pub columns: &'static [Column],
    pub cells: fn(&Value, i64) -> Vec<Value>,
}

/// The special rules of writing one subresource.
pub struct Subresource {
    pub name: &'static str,
    /// Takes from `new` what this subresource may not change, by putting the old parts back.
    pub prepare: fn(&mut Value, &Value, &Context),
    /// `new`, `old`.
    pub validate: fn(&Cursor<'_>, &Cursor<'_>),
    /// Top-level paths (`spec`, `metadata.labels`) that writers of this subresource never own.
    pub reset_fields: &'static [&'static str],
}

/// How names of objects are checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NameRule {
    /// DNS-1123 subdomain: most kinds.
    Subdomain,
    /// DNS-1123 label: namespaces.
    Label,
    /// DNS-1035 label: services.
    Label1035,
    /// A path segment: RBAC's kinds may hold colons.
    PathSegment,
}

/// Rules of a kind.
pub struct Strategy {
    pub name: NameRule,
    /// Counts changes of spec in `metadata.generation`.
    pub generation: bool,
    /// A list or map that is given but empty counts as a change, since it is stored as absent. Upstream compares so where it does not
    /// use its semantic comparison.
    pub empty_is_not_absent: bool,
    /// A PUT to a name that does not exist creates.
    pub create_on_update: bool,
    /// What a new object says in its status counts, which is only so for nodes: a kubelet registers with all it knows.
    pub status_on_create: bool,
    /// A PUT without a resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    /// Fills what the client left out. Runs on decoded input and on objects from storage.
    pub default: fn(&mut Value),
    /// After admission, before validation: drops what a client may not set. Status is already dropped where the row has `/status`.
    pub prepare_for_create: fn(&mut Value, &Context),
    /// The same for an update: `new`, `old`. Status is already put back where the row has `/status`.
    pub prepare_for_update: fn(&mut Value, &Value, &Context),
    /// Rules of a new object. Metadata that all kinds share is checked by the store.
    pub validate: fn(&Cursor<'_>),
    /// `new`, `old`; [`Strategy::validate`] is not called for updates, so this calls what applies.
    pub validate_update: fn(&Cursor<'_>, &Cursor<'_>),
    /// Texts for the client's `Warning` header; `old` is there on updates.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Last touch after validation on the way in: lists into their canonical form and the like.
    pub canonicalize: fn(&mut Value),
    /// Selectable fields; the first entry that is marked by the store as an index is a pod's node.
    pub fields: &'static [SelectableField],
    pub subresources: &'static [Subresource],
    pub table: Option<Table>,
    /// A DELETE answers with the object instead of a Status.
    pub return_deleted: bool,
    /// Whether a delete without options leaves dependents (`Orphan`) by default; only old kinds do.
    pub orphan_by_default: bool,
    /// What the first DELETE makes of an object (the time is now, RFC 3339) that this server itself has to clean up after: it is kept
    /// until that is done.
    pub hold: Option<fn(&mut Value, &str)>,
    /// Graceful deletion: given the object and the grace the client asked for (seconds, none if not said), how long it gets.
    /// 0 deletes at once. Kinds without it are deleted at once.
    pub grace: Option<fn(&Value, Option<i64>) -> i64>,
}

fn nothing(_: &mut Value) {}
fn nothing_created(_: &mut Value, _: &Context) {}
fn nothing_updated(_: &mut Value, _: &Value, _: &Context) {}
fn valid(_: &Cursor<'_>) {}
fn valid_update(_: &Cursor<'_>, _: &Cursor<'_>) {}
fn no_warnings(_: &Value, _: Option<&Value>) -> Vec<String> {
    Vec::new()
}

impl Strategy {
    /// A kind with nothing special about it.
    pub const GENERIC: Strategy = Strategy {
        name: NameRule::Subdomain,
        generation: false,
        empty_is_not_absent: false,
        create_on_update: false,
        status_on_create: false,
        unconditional_update: true,
        default: nothing,
        prepare_for_create: nothing_created,
        prepare_for_update: nothing_updated,
        validate: valid,
        validate_update: valid_update,
        warnings: no_warnings,
        canonicalize: nothing,
        fields: &[],
        subresources: &[],
        table: None,
        return_deleted: false,
        orphan_by_default: false,
        hold: None,
        grace: None,
    };

    /// The special rules of a subresource, if it has any.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}
