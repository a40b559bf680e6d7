//! postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;
use probes::handlers::{self, Outcome, Target};

/// Runs a hook to its end. Errors are texts for events: a failed hook is the user's affair.
pub async fn run(target: &Target<'_>, handler: &LifecycleHandler) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        return match handlers::exec(target, command, Duration::ZERO).await {
            Outcome::Success => Ok(()),
            Outcome::Failure(output) => Err(format!(
                "Exec lifecycle hook ({command:?}) for Container {:?} failed: {output}",
                target.container.name
            )),
            Outcome::Unknown(error) => Err(error),
        };
    }
    if let Some(action) = &handler.http_get {
        // Any answer will do; upstream ignores the status too.
        return match handlers::http_get(target, action).await {
            Outcome::Failure(message) if message.starts_with("Get ") => Err(message),
            Outcome::Unknown(message) => Err(message),
            _ => Ok(()),
        };
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    // tcpSocket is in the API for historical reasons and has never done anything.
    Ok(())
}
