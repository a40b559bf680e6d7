//! Which objects a list or watch is about: namespace, name, labels, fields.

use apimachinery::selector::{FieldSelector, LabelSelector};
use registry::resource::Resource;
use request::options::ListOptions;
use request::status::{Result, Status};
use storage::object::Object;
use storage::signature::Signature;
use storage::watchers::Scope;

/// A compiled selection.
pub struct Selection {
    /// Key prefix: `namespace/`, or empty for all.
    pub prefix: String,
    labels: LabelSelector,
    fields: Vec<FieldTest>,
    /// Fields are selected by as they are in the version asked for, and objects may be stored in another: what [`matches`]
    /// says is not the last word, [`matches_converted`] has it.
    ///
    /// [`matches`]: Selection::matches
    /// [`matches_converted`]: Selection::matches_converted
    pub converted: bool,
    /// What of labels and fields an object must have to be worth a look.
    pub wanted: Signature,
    /// The value of `metadata.name` if it must be one.
    name: Option<String>,
    /// The indexed field's value if it must be one.
    indexed: Option<String>,
}

struct FieldTest {
    of: Part,
    value: String,
    negated: bool,
}

impl FieldTest {
    fn holds(&self, object: &Object) -> bool {
        let value = match self.of {
            Part::Name => object.name(),
            Part::Namespace => object.namespace(),
            Part::Field(at) => object.fields.get(at).map_or("", |f| f),
        };
        (value == self.value) != self.negated
    }
}

enum Part {
    Name,
    Namespace,
    /// Position among the strategy's fields.
    Field(usize),
}

impl Selection {
    pub fn new(row: &Resource, namespace: &str, options: &ListOptions) -> Result<Selection> {
        let labels = match options.label_selector.as_str() {
            "" => LabelSelector::everything(),
            text => LabelSelector::parse(text).map_err(|e| Status::bad_request(e.to_string()))?,
        };
        let selector = FieldSelector::parse(&options.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        let mut fields = Vec::new();
        for requirement in &selector.requirements {
            let of = match requirement.field.as_str() {
                "metadata.name" => Part::Name,
                "metadata.namespace" if row.namespaced => Part::Namespace,
                other => match row.field(other) {
                    Some(at) => Part::Field(at),
                    None => return Err(Status::bad_request(format!("field label not supported: {other}"))),
                },
            };
            fields.push(FieldTest { of, value: requirement.value.clone(), negated: requirement.negated });
        }
        let converted = row.conversion.is_some() && fields.iter().any(|test| matches!(test.of, Part::Field(_)));
        let mut wanted = labels.exact().fold(Signature::default(), |s, (key, value)| s.with_label(key, value));
        for test in fields.iter().filter(|test| !test.negated && !converted) {
            if let Part::Field(at) = test.of {
                wanted = wanted.with_field(at, &test.value);
            }
        }
        Ok(Selection {
            wanted,
            converted,
            prefix: if namespace.is_empty() { String::new() } else { format!("{namespace}/") },
            labels,
            name: selector.exact("metadata.name").map(str::to_owned),
            indexed: selector.exact("spec.nodeName").map(str::to_owned),
            fields,
        })
    }

    /// Selects by nothing but the namespace.
    pub fn is_everything(&self) -> bool {
        self.fields.is_empty() && self.labels.is_everything()
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.fields.iter().all(|test| self.converted && matches!(test.of, Part::Field(_)) || test.holds(object))
            && self.labels.matches(|key| object.label(key))
            && object.key.starts_with(&self.prefix)
    }

    /// Whether an object that [`matches`](Self::matches) does so in the version asked for too, which it is in now.
    pub fn matches_converted(&self, object: &Object) -> bool {
        !self.converted || self.fields.iter().all(|test| test.holds(object))
    }

    /// The same for something that has a name and nothing else.
    pub fn matches_named(&self, name: &str) -> bool {
        self.fields.iter().all(|t| (matches!(t.of, Part::Name) && name == t.value) != t.negated)
            && self.labels.matches(|_| None)
    }

    /// The one key that can match, when name and namespace are both told.
    pub fn key(&self, row: &Resource) -> Option<String> {
        let name = self.name.as_ref()?;
        (!row.namespaced || !self.prefix.is_empty()).then(|| format!("{}{name}", self.prefix))
    }

    /// Where watchers with this selection are indexed.
    pub fn scope(&self, row: &Resource) -> Scope {
        if let Some(key) = self.key(row) {
            return Scope::Key(key);
        }
        if let Some(value) = &self.indexed {
            return Scope::Field(value.clone());
        }
        match self.prefix.strip_suffix('/') {
            Some(namespace) => Scope::Namespace(namespace.to_owned()),
            None => Scope::All,
        }
    }
}
