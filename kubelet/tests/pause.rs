//! The pause program ends when it is told to.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn pause_ends_on_sigterm_and_sigint() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut pause = Command::new(env!("CARGO_BIN_EXE_pause")).spawn().expect("pause starts");
        assert!(pause.try_wait().expect("its state").is_none(), "pause runs until it is told to end");
        // Before it has blocked the signal, the default action ends it too: either way it is gone.
        kill(Pid::from_raw(pause.id().cast_signed()), signal).expect("sent");
        pause.wait().expect("ended");
    }
}
