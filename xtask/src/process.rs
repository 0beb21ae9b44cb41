//! Other programs: run to their end, or kept running as a service that must not outlive us.
//!
//! In: a [`Command`]. Out: success, an exit status, a [`Service`].
//! Always: a service has a process group of its own, so that Ctrl-C in a terminal reaches only us and we stop it
//! in order; and the kernel ends it when we die, even by `kill -9` (Linux, through util-linux's `setpriv`;
//! elsewhere only a regular end stops it).
//! Absent on purpose: what the services are; see `services/`.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twohop_build::process::{find_program, runs};

pub use twohop_build::process::{capture, descendants, describe, pid_of, run, show, wait_within};

/// How often a process that has no way to call us is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program that runs beside us until it is told to end.
#[derive(Debug)]
pub struct Service {
    child: Child,
}

impl Service {
    /// A command for [`Service::start`]: the program will get `last_signal` from the kernel when we die.
    #[must_use]
    pub fn command(program: &Path, last_signal: Signal) -> Command {
        let Some(setpriv) = SETPRIV.as_ref() else { return Command::new(program) };
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", last_signal.as_str(), "--"]).arg(program);
        command
    }

    /// Starts it in a process group of its own, without input.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(mut command: Command) -> io::Result<Service> {
        command.process_group(0).stdin(Stdio::null());
        spawn_from_lasting_thread(command).map(|child| Service { child })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal; nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // Only we reap it, so the id cannot have been given to another process before `try_wait` says that it ended.
        if matches!(self.child.try_wait(), Ok(None)) {
            // The one failure left is that it ended just now.
            let _ = kill(self.pid(), signal);
        }
    }

    /// Waits until it ends, at most so long; nothing if it still runs then.
    pub fn wait_within(&mut self, within: Duration) -> Option<ExitStatus> {
        wait_within(&mut self.child, within)
    }

    /// Ends it with `signal`, or if it still runs after `within` with SIGKILL; its children too.
    pub fn stop(&mut self, signal: Signal, within: Duration) -> Option<ExitStatus> {
        self.signal(signal);
        self.wait_within(within).or_else(|| {
            self.kill_with_children();
            self.wait_within(within)
        })
    }

    /// `kill -9` of it and of every process that it started, and waits until none of them runs.
    pub fn kill_with_children(&mut self) {
        // Stopped, it cannot start another child between the look and the kill.
        self.signal(Signal::SIGSTOP);
        let children = descendants(self.pid());
        for child in &children {
            let _ = kill(*child, Signal::SIGKILL);
        }
        self.signal(Signal::SIGKILL);
        let until = Instant::now() + Duration::from_secs(10);
        self.wait_within(Duration::from_secs(10));
        while children.iter().any(|child| runs(*child)) && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill_with_children();
        }
    }
}

static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let setpriv = find_program("setpriv")?;
    let works = Command::new(&setpriv).args(["--pdeathsig", "KILL", "true"]).stderr(Stdio::null()).status();
    works.is_ok_and(|status| status.success()).then_some(setpriv)
});

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns from a thread that lasts as long as we do: the kernel sends the last signal when the *thread* that
/// started a process ends, and a test's thread or one of tokio's ends long before the program.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in received {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, answered) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    SPAWNER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone(mpsc::RecvError))?;
    answered.recv().map_err(gone)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    fn shell(script: &str) -> Service {
        let mut command = Service::command(Path::new("/bin/sh"), Signal::SIGKILL);
        command.args(["-c", script]).stdout(Stdio::piped());
        Service::start(command).unwrap()
    }

    fn first_line(service: &mut Service) -> String {
        let stdout = service.child().stdout.take().unwrap();
        BufReader::new(stdout).lines().next().unwrap().unwrap()
    }

    #[test]
    fn a_service_outlives_the_thread_that_started_it() {
        let mut service = thread::spawn(|| shell("echo up; exec sleep 60")).join().unwrap();
        assert_eq!(first_line(&mut service), "up");
        assert!(runs(service.pid()));
    }

    #[test]
    fn killing_a_service_ends_its_children_too() {
        let mut service = shell("setsid sleep 60 & echo $!; wait");
        let child = Pid::from_raw(first_line(&mut service).parse().unwrap());
        assert!(runs(child));
        let pid = service.pid();
        drop(service);
        assert!(!runs(child) && !runs(pid));
    }

    #[test]
    fn a_service_that_ignores_the_signal_is_killed() {
        let mut service = shell("trap '' TERM; echo up; while :; do sleep 60; done");
        assert_eq!(first_line(&mut service), "up");
        let status = service.stop(Signal::SIGTERM, Duration::from_millis(50)).unwrap();
        assert_eq!(describe(status), "killed by SIGKILL");
    }
}
