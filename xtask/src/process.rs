//! Other programs: run to their end, or kept running as a service that must not outlive us.
//!
//! In: a [`Command`]. Out: success, an exit status, a [`Service`].
//! Always: a service has a process group of its own, so that Ctrl-C in a terminal reaches only us and we stop it
//! in order; and the kernel ends it when we die, even by `kill -9` (Linux, through util-linux's `setpriv`;
//! elsewhere only a regular end stops it).
//! Absent on purpose: what the services are; see `services/`.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place;

/// How often a process that has no way to call us is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs a program to its end, with our own input and output.
///
/// # Errors
/// It could not be started, or did not end with success.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("could not run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {}", describe(status));
    }
    Ok(())
}

/// Runs a program to its end and gives what it printed on stdout.
///
/// # Errors
/// It could not be started, or did not end with success: then with what it printed on stderr.
pub fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not run `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed: {}\n{}", describe(output.status), said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as a person would type it.
#[must_use]
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// How a program ended, in words.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(Ok(signal))) => format!("killed by {signal}"),
        _ => status.to_string(),
    }
}

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

/// Waits until a child ends, at most so long; nothing if it still runs then.
pub fn wait_within(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The id of a child, as `nix` wants it.
#[must_use]
pub fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Every process below `parent`, as of now.
#[must_use]
pub fn descendants(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    let parents: Vec<(Pid, Pid)> = pids.filter_map(|pid| Some((pid, status_of(pid)?.parent))).collect();
    let mut found = vec![parent];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        found.extend(parents.iter().filter(|(_, its)| *its == above).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// Whether a process executes code: one that is dead but not yet reaped does not.
fn runs(pid: Pid) -> bool {
    match kill(pid, None) {
        Err(Errno::ESRCH) => false,
        _ => status_of(pid).is_none_or(|status| !matches!(status.state, 'Z' | 'X')),
    }
}

struct Status {
    state: char,
    parent: Pid,
}

fn status_of(pid: Pid) -> Option<Status> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The third and fourth field of proc(5)'s `stat`; the second is a name in parentheses that may hold anything.
fn parse_stat(line: &str) -> Option<Status> {
    let (_, fields) = line.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Status { state, parent: Pid::from_raw(fields.next()?.parse().ok()?) })
}

static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let setpriv = place::find_program("setpriv")?;
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

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_reading_of_stat() {
        let status = parse_stat("17 (a) b (c) S 4 17 17 0 -1").unwrap();
        assert_eq!((status.state, status.parent), ('S', Pid::from_raw(4)));
        assert!(parse_stat("17 (a)").is_none());
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = capture(Command::new("/bin/sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`/bin/sh -c echo why >&2; exit 3` failed: exit code 3\nwhy");
    }
}
