//! Other programs: found, run to their end, and ended where they take too long.
//!
//! In: a name, or a [`Command`]. Out: a path, success, what it printed. Absent on purpose: what runs beside us for long.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// Where an executable of this name is in `PATH`.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_in(name, &env::var_os("PATH").unwrap_or_default())
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// Whether the path is a file that someone may execute.
#[must_use]
pub fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
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
#[must_use]
pub fn runs(pid: Pid) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_first_folder_where_it_can_be_executed() {
        let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let path = env::join_paths([first.path(), second.path()]).unwrap();
        for folder in [&first, &second] {
            fs::write(folder.path().join("tool"), "").unwrap();
        }
        assert_eq!(find_in("tool", &path), None);
        let executable = second.path().join("tool");
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in("tool", &path), Some(executable));
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
