//! Machines of tests: network namespaces of threads, which go away with the test. The machine that the tests run on is never touched.

use crate::nft;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub struct Machine {
    pub thread_id: i32,
    jobs: mpsc::Sender<Job>,
}

impl Machine {
    /// Nothing where that takes privileges that are not there.
    pub fn start() -> Option<Machine> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        std::thread::spawn(move || {
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
            let failed = unshared.is_err();
            let _ = ready.send(unshared.map(|()| nix::unistd::gettid().as_raw()));
            if failed {
                return;
            }
            for job in queue {
                job();
            }
        });
        match started.recv().ok()? {
            Ok(thread_id) => {
                let machine = Machine { thread_id, jobs };
                // Without asking whether somebody has an address already, IPv6 works at once.
                machine.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap());
                machine.ip("link set lo up".into());
                Some(machine)
            }
            Err(error) => {
                eprintln!("skipped: network namespaces need root ({error})");
                None
            }
        }
    }

    /// Does something there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        let job = Box::new(move || {
            let _ = answer.send(job());
        });
        assert!(self.jobs.send(job).is_ok(), "the machine's thread has ended");
        answered.recv().unwrap()
    }

    /// The program `ip` with these words.
    pub fn ip(&self, arguments: String) {
        self.run(move || {
            let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        });
    }

    /// Has it forward packets.
    pub fn forward(&self) {
        self.run(|| {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{name}"), "1").unwrap();
            }
        });
    }

    /// Does something asynchronous there.
    pub fn block_on<F: Future<Output: Send + 'static>>(&self, job: impl FnOnce() -> F + Send + 'static) -> F::Output {
        self.run(move || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(job()))
    }

    /// Hands a script to nft.
    pub fn apply(&self, script: String) {
        self.block_on(move || async move { nft::apply(&script).await.unwrap() });
    }

    /// Answers on a port, at all addresses, with what it is told.
    pub fn listen(&self, port: u16) {
        self.run(move || {
            let listener = TcpListener::bind(("::", port)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(mut stream) = stream else { continue };
                    std::thread::spawn(move || {
                        let mut buffer = [0; 64];
                        while let Ok(count @ 1..) = stream.read(&mut buffer) {
                            let _ = stream.write_all(&buffer[..count]);
                        }
                    });
                }
            });
        });
    }

    /// Answers datagrams on a port with what they say.
    pub fn listen_udp(&self, port: u16) {
        self.run(move || {
            let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..count], from);
                }
            });
        });
    }

    /// Whether a datagram to an address and port is answered in time.
    pub fn ask_udp(&self, address: &str, port: u16) -> bool {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        self.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(CONNECT_TIMEOUT)).unwrap();
            socket.send_to(b"x", address).unwrap();
            socket.recv_from(&mut [0; 64]).is_ok()
        })
    }

    /// A connection to an address and port, if there is an answer in time.
    pub fn connect(&self, address: &str, port: u16) -> Option<TcpStream> {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        self.run(move || TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).ok())
    }
}
