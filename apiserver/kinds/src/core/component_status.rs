//! ComponentStatuses: how they are printed. They are made in [`crate::handlers::components`].

use registry::edit::{items, text};
use registry::printing::{NAME, column, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    table: Some(Table {
        columns: &[
            NAME,
            column("Status", "Whether the component is well."),
            column("Message", "What it answered."),
            column("Error", "Why it is not well."),
        ],
        cells: |component, _| {
            let healthy = items(component, "conditions").iter().find(|c| c["type"] == "Healthy");
            let part = |member: &str| healthy.map_or("", |c| text(c, member));
            let status = match part("status") {
                "True" => "Healthy",
                "False" => "Unhealthy",
                _ => "Unknown",
            };
            vec![name(component), status.into(), part("message").into(), part("error").into()]
        },
    }),
    ..Strategy::GENERIC
};
