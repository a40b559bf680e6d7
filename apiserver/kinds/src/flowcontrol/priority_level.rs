//! PriorityLevelConfigurations.

use apimachinery::Value;
use apimachinery::validation::Cursor;

use registry::edit::{copy, default, default_number, object, text};
use registry::printing::{AGE, NAME, NONE, column, created, name, scalar_or};
use registry::strategy::{Strategy, Subresource, Table};

/// Seats in queues: hands of this size are dealt from these many queues.
const QUEUES_MAX: i64 = 10_000_000;

/// Bits of a hash by which a flow is dealt its queues.
const HASH_BITS_MAX: f64 = 60.0;
/// Carries an older version's meaning of 0 shares; it never stands in what is stored.
const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    validate,
    validate_update: |new, _| validate(new),
    subresources: &[Subresource {
        name: "status",
        prepare: |level, old, _| copy(level, old, "spec"),
        validate: |_, _| {},
        reset_fields: &["spec", "metadata"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Type", ".spec.type"),
            column("NominalConcurrencyShares", ".spec.limited.nominalConcurrencyShares"),
            column("Queues", ".spec.limited.limitResponse.queuing.queues"),
            column("HandSize", ".spec.limited.limitResponse.queuing.handSize"),
            column("QueueLengthLimit", ".spec.limited.limitResponse.queuing.queueLengthLimit"),
            AGE,
        ],
        cells: |level, now| {
            let member = if text(level, "spec.type") == "Exempt" { "exempt" } else { "limited" };
            let queuing = |name: &str| scalar_or(level, &format!("spec.limited.limitResponse.queuing.{name}"), NONE);
            vec![
                name(level),
                text(level, "spec.type").into(),
                scalar_or(level, &format!("spec.{member}.nominalConcurrencyShares"), NONE),
                queuing("queues"),
                queuing("handSize"),
                queuing("queueLengthLimit"),
                created(level, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn defaulted(level: &mut Value) {
    let spec = object(level, "spec");
    match text(spec, "type") {
        "Exempt" => {
            let exempt = object(spec, "exempt");
            default(exempt, "nominalConcurrencyShares", 0);
            default(exempt, "lendablePercent", 0);
        }
        "Limited" => {
            let limited = object(spec, "limited");
            default(limited, "nominalConcurrencyShares", 30);
            default(limited, "lendablePercent", 0);
            let response = object(limited, "limitResponse");
            if text(response, "type") == "Queue" {
                let queuing = object(response, "queuing");
                default_number(queuing, "queues", 64);
                default_number(queuing, "handSize", 8);
                default_number(queuing, "queueLengthLimit", 50);
            }
        }
        _ => {}
    }
}

fn validate(level: &Cursor<'_>) {
    let spec = level.field("spec");
    let (limited, exempt) = (spec.field("limited"), spec.field("exempt"));
    let annotations = level.dig("metadata.annotations");
    if annotations.field(PRESERVE_ZERO).exists() {
        annotations.forbid(format!("annotation '{PRESERVE_ZERO}' is forbidden"));
    }
    if (level.dig("metadata.name").str() == "exempt") != (spec.field("type").str() == "Exempt") {
        spec.field("type").invalid("must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match spec.field("type").str() {
        "Exempt" => {
            limited.absent("must be nil if the type is not Limited");
            exempt.field("nominalConcurrencyShares").non_negative();
            exempt.field("lendablePercent").range(0, 100);
        }
        "Limited" => {
            exempt.absent("must be nil if the type is Limited");
            if limited.exists() {
                self::limited(&limited);
            } else {
                limited.missing("must not be empty when type is Limited");
            }
        }
        _ => spec.field("type").not_supported(&["Exempt", "Limited"]),
    }
}

fn limited(limited: &Cursor<'_>) {
    limited.field("nominalConcurrencyShares").non_negative();
    limited.field("lendablePercent").range(0, 100);
    limited.field("borrowingLimitPercent").non_negative();
    let response = limited.field("limitResponse");
    let queuing = response.field("queuing");
    match response.field("type").str() {
        "Reject" => {
            queuing.absent("must be nil if limited.limitResponse.type is not Queue");
        }
        "Queue" if !queuing.exists() => queuing.missing("must not be empty if limitResponse.type is Queue"),
        "Queue" => {
            let (queues, hand) = (queuing.field("queues"), queuing.field("handSize"));
            for c in [&queues, &hand, &queuing.field("queueLengthLimit")] {
                c.positive();
            }
            if queues.i64().is_some_and(|q| q > QUEUES_MAX) {
                queues.invalid(format!("must not be greater than {QUEUES_MAX}"));
            }
            let (deck, dealt) = (queues.i64().unwrap_or_default(), hand.i64().unwrap_or_default());
            if dealt > 0 && dealt > deck {
                hand.invalid("should not be greater than queues");
            } else if dealt > 0 && ((deck as f64).log2() * dealt as f64).ceil() > HASH_BITS_MAX {
                hand.invalid(format!("would need more than the {HASH_BITS_MAX} bits of a hash with {deck} queues"));
            }
        }
        _ => response.field("type").not_supported(&["Queue", "Reject"]),
    }
}
