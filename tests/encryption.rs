//! Encrypted connections, and who is let in by what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use twohop_tests::{Follower, Setup, Stand};
use xtask::process;
use xtask::services::host::refusal_within;
use xtask::services::postgres;

const WITHIN: Duration = Duration::from_secs(30);

/// Who is let in by what. The superuser `postgres`, whose password is `postgres::PASSWORD`, comes encrypted; the other
/// roles are made by `ROLES`.
const HBA: &str = "\
hostssl all postgres 127.0.0.1/32 scram-sha-256
hostssl all ann 127.0.0.1/32 cert
host all bob 127.0.0.1/32 password
hostnossl all carl 127.0.0.1/32 md5
";
const ROLES: &str = "CREATE ROLE ann SUPERUSER LOGIN; CREATE ROLE bob SUPERUSER LOGIN PASSWORD 's3cret'; \
     SET password_encryption = 'md5'; CREATE ROLE carl SUPERUSER LOGIN PASSWORD 's3cret'";

/// Authorities and certificates, made anew for each test.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Result<Self> {
        let made = Self(tempfile::Builder::new().prefix("twohop-certificates-").tempdir()?);
        for authority in ["ca", "other"] {
            made.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.pem -addext basicConstraints=critical,CA:TRUE"
            ))?;
        }
        // The server is known by name, and not by its address.
        made.signed("server", "localhost", "DNS:localhost")?;
        made.signed("ann", "ann", "DNS:ann")?;
        Ok(made)
    }

    fn signed(&self, file: &str, name: &str, alternative: &str) -> Result<()> {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {file}.key -out \
             {file}.csr"
        ))?;
        fs::write(self.path(&format!("{file}.ext")), format!("subjectAltName={alternative}\n"))?;
        self.openssl(&format!(
            "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha256 -extfile {file}.ext \
             -out {file}.pem"
        ))
    }

    fn openssl(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        process::capture(&mut command).map(drop)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn read(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(self.path(file))?)
    }
}

fn server(certificates: &Certificates) -> Result<postgres::Options> {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Ok(postgres::Options {
        auth: postgres::Auth::Scram,
        settings: vec![
            setting("ssl", "on"),
            setting("ssl_cert_file", "server.pem"),
            setting("ssl_key_file", "server.key"),
            setting("ssl_ca_file", "ca.pem"),
        ],
        files: vec![
            ("server.pem".to_owned(), certificates.read("server.pem")?),
            ("server.key".to_owned(), certificates.read("server.key")?),
            ("ca.pem".to_owned(), certificates.read("ca.pem")?),
            ("pg_hba.conf".to_owned(), HBA.to_owned()),
        ],
        ..postgres::Options::default()
    })
}

/// Gives the configuration another URL.
fn set_url(stand: &Stand, url: &str) -> Result<()> {
    let text = fs::read_to_string(&stand.options.config)?;
    let lines = text.lines().map(|line| match line.starts_with("url = ") {
        true => format!("url = \"{url}\"\n"),
        false => format!("{line}\n"),
    });
    Ok(fs::write(&stand.options.config, lines.collect::<String>())?)
}

/// How many of our connections are encrypted, and how many there are.
fn encrypted(stand: &Stand) -> Result<String> {
    let sql = "SELECT count(*) FILTER (WHERE ssl) || ' of ' || count(*) FROM pg_stat_ssl JOIN pg_stat_activity \
               USING (pid) WHERE application_name = 'twohop shop'";
    Ok(stand.postgres.psql(sql)?.trim().to_owned())
}

fn url(stand: &Stand, account: &str, host: &str, query: &str) -> String {
    format!("postgres://{account}@{host}:{}/postgres?{query}", stand.postgres.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_taken_if_its_certificate_is_right_and_refused_if_not() -> Result<()> {
    let certificates = Certificates::new()?;
    let setup = Setup { postgres: server(&certificates)?, ..Setup::default() };
    // The first start is by `prefer`, which takes what the server offers.
    let mut stand = Stand::start(&setup)?;
    assert_eq!(encrypted(&stand)?, "2 of 2");
    stand.host.terminate();
    let account = format!("postgres:{}", postgres::PASSWORD);
    let path = |file: &str| certificates.path(file).display().to_string();
    let (right, wrong) = (path("ca.pem"), path("other.pem"));
    for (host, query, says) in [
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={wrong}"),
            "the authority that signed the server's",
        ),
        (
            "localhost",
            format!("sslmode=require&sslrootcert={wrong}"),
            "the authority that signed the server's",
        ),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={right}"), "subjectAltName"),
        ("localhost", "sslmode=verify-full&sslrootcert=/nowhere.pem".to_owned(), "sslrootcert /nowhere.pem"),
        ("127.0.0.1", "sslmode=disable".to_owned(), "no encryption"),
    ] {
        set_url(&stand, &url(&stand, &account, host, &query))?;
        let refusal = refusal_within(&stand.options, WITHIN)?;
        assert_eq!(refusal.status.code(), Some(1), "{query}: {}", refusal.stderr);
        assert!(refusal.stderr.contains(says), "{query}: `{says}` is not in:\n{}", refusal.stderr);
    }
    for (host, query) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={right}&channel_binding=require")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={right}")),
    ] {
        set_url(&stand, &url(&stand, &account, host, &query))?;
        stand.host.restart()?;
        assert_eq!(encrypted(&stand)?, "2 of 2", "{query}");
    }
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'x')")?;
    follower.wait_until("the row", WITHIN, |events| !events.is_empty()).await.map(drop)
}

/// Only its owner may read a key.
fn own(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_we_are_is_shown_by_a_certificate_or_a_password_that_nobody_else_can_read() -> Result<()> {
    let certificates = Certificates::new()?;
    let schema = format!("{}; {ROLES}", twohop_tests::SCHEMA);
    let setup = Setup { schema: &schema, postgres: server(&certificates)?, ..Setup::default() };
    let mut stand = Stand::start(&setup)?;
    stand.host.terminate();
    let (certificate, key) = (certificates.path("ann.pem"), certificates.path("ann.key"));
    own(&key)?;
    let ours = format!("sslmode=require&sslcert={}&sslkey={}", certificate.display(), key.display());
    for (account, query, expected) in [
        ("ann", ours.as_str(), "2 of 2"),
        // In clear, but within the encryption.
        ("bob:s3cret", "sslmode=require", "2 of 2"),
        ("carl:s3cret", "sslmode=disable", "0 of 2"),
    ] {
        set_url(&stand, &url(&stand, account, "127.0.0.1", query))?;
        stand.host.restart()?;
        assert_eq!(encrypted(&stand)?, expected, "{account}");
        stand.host.terminate();
    }
    for (account, query, says) in [
        ("ann", "sslmode=require", "certificate"),
        ("bob:s3cret", "sslmode=disable", "in clear on a connection that is not encrypted"),
        ("bob:wr0ng", "sslmode=require", "does not accept the password of `bob`"),
    ] {
        set_url(&stand, &url(&stand, account, "127.0.0.1", query))?;
        let refusal = refusal_within(&stand.options, WITHIN)?;
        assert_eq!(refusal.status.code(), Some(1), "{account}: {}", refusal.stderr);
        assert!(refusal.stderr.contains(says), "{account}: `{says}` is not in:\n{}", refusal.stderr);
        for secret in ["s3cret", "wr0ng"] {
            assert!(!refusal.stderr.contains(secret), "a password is never printed: {}", refusal.stderr);
        }
    }
    // What was asked for in clear was not sent: the server would have let `bob` in.
    assert!(!stand.postgres.log_text().contains("s3cret"));
    Ok(())
}
