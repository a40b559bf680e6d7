//! Rules that the kinds of dynamic resource allocation share: names, configuration for drivers, tolerations.

use apimachinery::validation::{Cursor, FieldError, names};

use crate::core::volume_source;

const POOL_BYTES_MAX: usize = names::SUBDOMAIN_MAX;
const ID_BYTES_MAX: usize = 32;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;

/// The name of a driver, which is a CSI driver's in shape.
pub fn driver(name: &Cursor<'_>) {
    if name.required() {
        volume_source::csi_driver(name);
    }
}

/// The name of a pool: subdomains with slashes between.
pub fn pool(name: &Cursor<'_>) {
    if name.required() {
        name.bytes_max(POOL_BYTES_MAX);
        let problems = name.str().split('/').flat_map(names::dns1123_subdomain);
        problems.for_each(|problem| name.invalid(problem));
    }
}

/// The name of an attribute or a capacity, with or without the domain of who defines it. `at` is where the error is.
pub fn qualified_name(at: &Cursor<'_>, name: &str) {
    let domain = |domain: &str| {
        let held = domain.into();
        driver(&Cursor::at(Some(&held), at.path(), at.errors()));
    };
    match name.split('/').collect::<Vec<_>>()[..] {
        [""] => at.missing("name required"),
        [id] => identifier(at, id),
        [prefix, id] => {
            domain(prefix);
            if id.is_empty() { at.missing("the name must not be empty") } else { identifier(at, id) }
        }
        // Upstream looks no closer at more parts.
        _ => {}
    }
}

fn identifier(at: &Cursor<'_>, id: &str) {
    if id.len() > ID_BYTES_MAX {
        at.too_long(ID_BYTES_MAX);
    }
    names::c_identifier(id).into_iter().for_each(|problem| at.invalid_value(id, problem));
}

/// The same with the domain.
pub fn fully_qualified_name(name: &Cursor<'_>) {
    qualified_name(name, name.str());
    if !name.is_empty() && !name.str().contains('/') {
        name.invalid("must include a domain");
    }
}

/// What a driver is told of the devices that it prepares. `stored` tells that it stood there before, when nothing bounded its length.
pub fn configuration(config: &Cursor<'_>, stored: bool) {
    let opaque = config.field("opaque");
    if !opaque.exists() {
        return opaque.missing("");
    }
    driver(&opaque.field("driver"));
    let parameters = opaque.field("parameters");
    let Some(value) = parameters.value() else { return parameters.missing("") };
    if !stored && value.to_string().len() > PARAMETERS_BYTES_MAX {
        parameters.too_long(PARAMETERS_BYTES_MAX);
    } else if !value.is_object() {
        parameters.push(FieldError::invalid(parameters.path(), "<value omitted>", "must be a valid JSON object"));
    }
}

/// Tolerations of taints of devices.
pub fn tolerations(list: &Cursor<'_>) {
    for toleration in list.items() {
        let (operator, value) = (toleration.field("operator"), toleration.field("value"));
        toleration.field("key").optional_shape(names::qualified_name);
        operator.required_one_of(&["Equal", "Exists"]);
        match operator.str() {
            "Exists" if !value.is_empty() => value.invalid("must be empty for operator `Exists`"),
            "Equal" => {
                value.shape(names::label_value);
            }
            _ => {}
        }
        if !toleration.field("effect").is_empty() {
            toleration.field("effect").one_of(&["NoExecute", "NoSchedule"]);
        }
    }
}

/// What must be true before a pod is bound to a device, and what speaks against it: both or none.
pub fn binding_conditions(owner: &Cursor<'_>) {
    const CONDITIONS_MAX: usize = 4;
    let lists = ["bindingConditions", "bindingFailureConditions"].map(|name| owner.field(name));
    for list in &lists {
        for condition in list.items() {
            condition.shape(names::qualified_name);
        }
        list.items_max(CONDITIONS_MAX);
        list.unique(Cursor::clone);
    }
    let [conditions, failures] = lists;
    for failure in failures.items().filter(|f| conditions.array().iter().any(|c| Some(c) == f.value())) {
        failure.invalid("bindingFailureConditions must not overlap with bindingConditions");
    }
    match (conditions.is_empty(), failures.is_empty()) {
        (true, false) => conditions.invalid("bindingConditions are required to use bindingFailureConditions"),
        (false, true) => failures.invalid("bindingFailureConditions are required to use bindingConditions"),
        _ => {}
    }
}
