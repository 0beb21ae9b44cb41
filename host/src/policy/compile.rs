//! From a component's bytes to machine code, in a child process that may be killed.
//!
//! A compiler is the one place where a small upload can cost much time and memory, and wasmtime does not count that
//! as a vulnerability. So the program runs itself again as `compile-plugin PROFILE METER IN OUT`: [`compile_in_child`] on this side,
//! [`compile_plugin`] on the other.
//!
//! Invariant: the child has no environment, no more memory, processor time and file size than `limits` says, and ends
//! with its parent or by the clock.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::engine;
use super::{Meter, PluginError, Profile};
use crate::limits::{COMPILE_MEMORY_BYTES_MAX, COMPILE_REPORT_BYTES_MAX, COMPILED_BYTES_MAX};

/// The hidden subcommand of the program, to be followed by the names of the profile and the meter, the component's path
/// and the path of the result.
pub const COMPILE_SUBCOMMAND: &str = "compile-plugin";

/// Compiles the component in `input` into a new file `output`. Limits the whole process first: call it in a process
/// that does nothing else.
///
/// # Errors
/// If the component is not valid, uses what is turned off, or a file cannot be read or written.
pub fn compile_plugin(
    profile: Profile,
    meter: Meter,
    input: &Path,
    output: &Path,
) -> Result<(), PluginError> {
    limit_this_process(profile).map_err(|errno| PluginError::Compiler(errno.into()))?;
    let wasm = read_component(input, profile)?;
    std::fs::write(output, precompile(&wasm, meter)?).map_err(PluginError::Compiler)
}

/// Compiles the component in `input` into a new file `output`, by `program` as a child process. Blocks until it ends,
/// for at most the profile's time.
///
/// # Errors
/// If the program cannot be started, takes too long, is killed by its limits, or refuses the component.
pub fn compile_in_child(
    program: &Path,
    profile: Profile,
    meter: Meter,
    input: &Path,
    output: &Path,
) -> Result<(), PluginError> {
    let words = [profile.as_str(), meter.as_str()];
    compile_within(program, words, input, output, profile.bounds().compile_time_max)
}

fn compile_within(
    program: &Path,
    words: [&str; 2],
    input: &Path,
    output: &Path,
    time_max: Duration,
) -> Result<(), PluginError> {
    let mut child = Command::new(program)
        .arg(COMPILE_SUBCOMMAND)
        .args(words)
        .args([input, output])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(PluginError::Compiler)?;
    let (status, report) = wait(&mut child, time_max).map_err(PluginError::Compiler)?;
    match status {
        None => Err(PluginError::CompileTime(time_max)),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failure(status, &report, time_max)),
    }
}

/// The child's end is the end of its standard error. Nothing for a status: it was killed by the clock.
fn wait(child: &mut Child, time_max: Duration) -> io::Result<(Option<ExitStatus>, String)> {
    let stderr = child.stderr.take().expect("it is piped");
    let (send, ended) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut report = Vec::new();
        let mut stderr = stderr.take(COMPILE_REPORT_BYTES_MAX);
        let read = stderr.read_to_end(&mut report);
        // What is more is not kept, but must be taken, or the child would wait for it.
        let read = read.and_then(|_| io::copy(&mut stderr.into_inner(), &mut io::sink()));
        // Nobody listens if the clock was faster.
        let _ = send.send(read.map(|_| report));
    });
    let report = match ended.recv_timeout(time_max) {
        Ok(report) => report?,
        Err(_) => {
            child.kill()?;
            child.wait()?;
            return Ok((None, String::new()));
        }
    };
    let status = child.wait()?;
    // It has sent its last, and holds nothing that could block it.
    let _ = reader.join();
    Ok((Some(status), String::from_utf8_lossy(&report).trim().to_owned()))
}

/// The report is the child's own error, as this program's `main` prints it, or one that returns it.
fn failure(status: ExitStatus, report: &str, time_max: Duration) -> PluginError {
    let report = ["error: ", "Error: "].iter().find_map(|head| report.strip_prefix(head)).unwrap_or(report);
    let Some(number) = status.signal() else {
        return match report {
            "" => PluginError::Compile(format!("the compiler failed with {status} and said nothing")),
            report => PluginError::Child(report.to_owned()),
        };
    };
    let signal = Signal::try_from(number).map_or("a signal", Signal::as_str);
    let why = match signal {
        "SIGKILL" | "SIGXCPU" => {
            let seconds = time_max.as_secs();
            format!("it needs more than {seconds} s of processor time, or more memory than there is")
        }
        _ => format!("it likely needs more than {COMPILE_MEMORY_BYTES_MAX} bytes of memory"),
    };
    let said = if report.is_empty() { String::new() } else { format!("; it said: {report}") };
    PluginError::Compile(format!("the compiler died of {signal}: {why}{said}"))
}

fn limit_this_process(profile: Profile) -> nix::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let seconds = profile.bounds().compile_time_max.as_secs();
    for (resource, max) in [
        (Resource::RLIMIT_AS, COMPILE_MEMORY_BYTES_MAX),
        (Resource::RLIMIT_CPU, seconds),
        (Resource::RLIMIT_FSIZE, COMPILED_BYTES_MAX),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, max, max)?;
    }
    Ok(())
}

/// Reads a component and looks at its first bytes.
///
/// # Errors
/// If it cannot be read, is too large for its profile, or is no component.
pub fn read_component(path: &Path, profile: Profile) -> Result<Vec<u8>, PluginError> {
    let bytes_max = profile.bounds().component_bytes_max;
    let file = std::fs::File::open(path).map_err(PluginError::Read)?;
    let mut wasm = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut wasm).map_err(PluginError::Read)?;
    if wasm.len() > bytes_max {
        return Err(PluginError::TooLarge(profile));
    }
    match wasm.first_chunk() {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(wasm),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Err(PluginError::CoreModule),
        Some(_) | None => Err(PluginError::NotWebAssembly),
    }
}

/// Compiles in this process.
///
/// # Errors
/// If the component is not valid or uses what is turned off.
pub(super) fn precompile(wasm: &[u8], meter: Meter) -> Result<Vec<u8>, PluginError> {
    let compiled = engine::compiler(meter).precompile_component(wasm);
    compiled.map_err(|error| PluginError::Compile(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;
    use crate::policy::fixtures;

    /// A program of a shell's few lines.
    fn program(folder: &Path, lines: &str) -> PathBuf {
        let path = folder.join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("the folder is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
        path
    }

    fn run(lines: &str, time_max: Duration) -> Result<(), PluginError> {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let program = program(folder.path(), lines);
        compile_within(&program, ["large", "clock"], Path::new("in.wasm"), Path::new("out.cwasm"), time_max)
    }

    const LONG: Duration = Duration::from_secs(300);

    #[test]
    fn a_child_that_takes_too_long_is_killed() {
        let start = Instant::now();
        let error = run("exec sleep 300", Duration::from_millis(20)).expect_err("it takes too long");
        assert!(matches!(error, PluginError::CompileTime(_)), "{error}");
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn what_the_child_says_is_in_the_error() {
        let error = run("echo \"$1 $2 $3 $4 $5: no\" >&2; exit 3", LONG).expect_err("it fails");
        assert_eq!(error.to_string(), "compile-plugin large clock in.wasm out.cwasm: no");
        for head in ["error", "Error"] {
            let lines = format!("echo {head}: does not compile: no >&2; exit 1");
            let error = run(&lines, LONG).expect_err("it fails");
            assert_eq!(error.to_string(), "does not compile: no");
        }
        let error = run("exit 3", LONG).expect_err("it fails");
        assert_eq!(
            error.to_string(),
            "does not compile: the compiler failed with exit status: 3 and said nothing"
        );
        let error = run("kill -SEGV $$", LONG).expect_err("it dies");
        assert!(error.to_string().contains("died of SIGSEGV"), "{error}");
    }

    #[test]
    fn a_child_that_says_too_much_is_heard_in_part_and_does_not_hang() {
        let error = run("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", LONG).expect_err("it fails");
        let PluginError::Child(report) = error else { panic!("{error}") };
        assert_eq!(report.len() as u64, COMPILE_REPORT_BYTES_MAX);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let [program, input, output] = ["/nowhere/twohop", "a", "b"].map(Path::new);
        let error = compile_in_child(program, Profile::Small, Meter::Clock, input, output);
        assert!(matches!(error, Err(PluginError::Compiler(_))));
    }

    /// This test is its own child: the program it starts runs this very test again, with the paths in the environment.
    #[test]
    fn the_child_compiles_within_its_limits() {
        if let (Some(input), Some(output)) = (std::env::var_os("COMPILE_IN"), std::env::var_os("COMPILE_OUT"))
        {
            compile_plugin(Profile::Small, Meter::Clock, input.as_ref(), output.as_ref())
                .expect("the component compiles");
            let (memory, _) = nix::sys::resource::getrlimit(Resource::RLIMIT_AS).expect("limits can be read");
            assert_eq!(memory, COMPILE_MEMORY_BYTES_MAX);
            return;
        }
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let this = std::env::current_exe().expect("a test has a path");
        let lines = format!(
            "COMPILE_IN=\"$4\" COMPILE_OUT=\"$5\" exec '{}' --exact {}::the_child_compiles_within_its_limits",
            this.display(),
            module_path!().split_once("::").expect("a module is in its crate").1,
        );
        let program = program(folder.path(), &lines);
        let (input, output) = (folder.path().join("in.wasm"), folder.path().join("out.cwasm"));
        let wasm = fixtures::Guest::default().component();
        std::fs::write(&input, &wasm).expect("the folder is writable");
        compile_in_child(&program, Profile::Small, Meter::Clock, &input, &output)
            .expect("the child compiles");
        assert_eq!(
            std::fs::read(&output).expect("the child wrote it"),
            precompile(&wasm, Meter::Clock).expect("it compiles")
        );
    }
}
