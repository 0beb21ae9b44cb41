//! What a server says while it runs: kept in its log, and looked through for the words by which it is ready.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// Copies what the server says into its log until it ends; tells when it says that it is ready. The channel closes if it
/// ends before.
pub(crate) fn until(
    ready: &'static str,
    from: Option<impl Read + Send + 'static>,
    log: File,
) -> Receiver<()> {
    let (tell, told) = mpsc::channel();
    if let Some(from) = from {
        thread::spawn(move || copy(from, log, ready, tell));
    }
    told
}

fn copy(from: impl Read, mut log: File, ready: &str, tell: Sender<()>) {
    let mut tell = Some(tell);
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        // A log that cannot be written must not keep the server from running.
        let _ = log.write_all(&[line.as_slice(), b"\n"].concat());
        if String::from_utf8_lossy(&line).contains(ready)
            && let Some(tell) = tell.take()
        {
            // Whoever waited may have given up.
            let _ = tell.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_told_once_the_server_says_so_and_the_log_keeps_everything() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let told = |said: &str| {
            let (tell, told) = mpsc::channel();
            copy(said.as_bytes(), File::create(&log).unwrap(), "is ready", tell);
            assert_eq!(std::fs::read_to_string(&log).unwrap(), said);
            told.iter().count()
        };
        assert_eq!(told("starting\nit is ready\nmore\nit is ready\n"), 1);
        assert_eq!(told("FATAL: no\n"), 0);
    }
}
