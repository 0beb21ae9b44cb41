//! A private nginx with nchan: on a free port, in a temporary folder, with one worker on the first core.
//!
//! Always: it answers when [`Nchan::start`] returns. Dropped, server and folder are gone.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Folder, port};
use crate::process::{Service, descendants};
use crate::setup::{self, NCHAN_MODULE};

const READY_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const MISSING: &str = "nginx is not installed: `cargo xtask bench gateway` installs it";

/// A private nginx with nchan: who posts to `/pub` reaches who listens to `/sub`, as an event stream or a WebSocket.
#[derive(Debug)]
pub struct Nchan {
    // Before the folder: fields are dropped in this order.
    server: Service,
    _folder: Folder,
    port: u16,
}

impl Nchan {
    /// Starts a server. Blocks until it accepts connections.
    ///
    /// # Errors
    /// nginx or nchan is not installed, or does not start: then with what it said.
    pub fn start() -> Result<Nchan> {
        let program = setup::find_nginx().context(MISSING)?;
        let folder = Folder::new("nchan")?;
        let port = port::free().context("could not find a free port")?;
        let configuration = folder.write("nginx.conf", &configuration(folder.path(), port))?;
        let mut command = Service::command(Path::new("/usr/bin/taskset"), Signal::SIGKILL);
        command.args(["-c", "0"]).arg(program).arg("-c").arg(configuration);
        command.arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log"));
        folder.run_inside(&mut command).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Service::start(command).context("could not start nginx")?;
        let started = Instant::now();
        // The master listens before its worker is there.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() || descendants(server.pid()).is_empty()
        {
            if server.wait_within(LOOK_EVERY).is_some() || started.elapsed() > READY_WITHIN {
                let said = std::fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
                bail!("nginx did not start; it said:\n{said}");
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(Nchan { server, _folder: folder, port })
    }

    /// Where it listens, on every address of this machine.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process that serves, which is nginx's only child.
    ///
    /// # Errors
    /// It is not there.
    pub fn worker(&self) -> Result<i32> {
        let children = descendants(self.server.pid());
        Ok(children.first().context("nginx has no worker")?.as_raw())
    }
}

/// Nothing is written outside the folder, and nothing of what it does but delivering costs anything.
fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "load_module {NCHAN_MODULE};
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {folder}/nginx.pid;
events {{ worker_connections 19000; }}
http {{
    access_log off; keepalive_requests 100000000; tcp_nodelay on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen {port} backlog=4096;
        location = /sub {{ nchan_subscriber; nchan_channel_id bench; nchan_subscriber_first_message newest; }}
        location = /pub {{ nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 50; }}
    }}
}}
"
    )
}
