//! The process that holds a pod's namespaces open. As PID 1 of a shared PID namespace it inherits orphans, so it reaps
//! them; it leaves on SIGTERM or SIGINT. One thread, no allocation after start.

use std::mem::MaybeUninit;

fn main() {
    // SAFETY: plain libc calls on local, initialised signal sets; no other thread exists.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let set = set.assume_init();
        // PID 1 has no default signal actions: blocked and waited for, no signal is lost and none needs a handler.
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        loop {
            // Children may have come with us over an exec, so reap before the first wait too.
            while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
            let mut signal = 0;
            if libc::sigwait(&set, &mut signal) == 0 && signal != libc::SIGCHLD {
                return;
            }
        }
    }
}
