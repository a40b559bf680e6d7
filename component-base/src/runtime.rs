//! The life of a process: one tokio runtime, one cancellation token, signals.
//!
//! ```no_run
//! use component_base::runtime;
//!
//! fn main() -> std::process::ExitCode {
//!     runtime::run(2, |shutdown| async move {
//!         shutdown.cancelled().await;
//!         Ok(())
//!     })
//! }
//! ```

use std::{future::Future, process, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs `main` until it ends. SIGTERM and SIGINT cancel its token, so that it may end in order; a second signal exits
/// at once with 1. An error of `main` is printed with its causes, exit status 1.
///
/// `threads` is the number of worker threads; 1 means that everything runs on the main thread.
pub fn run<F, Fut>(threads: usize, main: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    raise_file_limit();
    return_memory();
    // An error means that it is installed already, by a test or a library.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            // Blocking calls are rare (DNS, file systems); 512 threads' stacks would be the price of tokio's default.
            .max_blocking_threads(16)
            .enable_all()
            .build(),
    };
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(async {
            let shutdown = CancellationToken::new();
            let _signals = AbortOnDrop(tokio::spawn(cancel_on_signal(shutdown.clone())));
            main(shutdown).await
        });
        // Blocking tasks may hang in the kernel (a dead NFS server); they don't get to hold the process.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Takes as many open files as the process may have: a connection is one, and the usual soft limit of 1024 is for `select`.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "Cannot raise the limit of open files");
    }
}

/// Lets the allocator give memory back by itself, ten seconds after it was last used: without a thread of its own it does so only
/// while memory is asked for, and after a storm of connections or large lists a process would stay as large as it was.
fn return_memory() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "Memory that is free again stays with this process for a while");
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut term, mut int) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "Cannot listen for SIGTERM and SIGINT; stop this process with SIGKILL");
            return;
        }
    };
    for asked_before in [false, true] {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        if asked_before {
            process::exit(1);
        }
        tracing::info!("Received a signal, shutting down");
        shutdown.cancel();
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub struct AbortOnDrop<T = ()>(pub tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
