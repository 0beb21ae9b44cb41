//! The configuration, from text.

use super::*;
use crate::limits;

const FIVE_LINES: &str = r#"
[source.shop]
url = "postgres://app:secret@db/shop"
tables = ["orders"]
[plugin.row-router]
file = "row-router.wasm"
settings = { tables = "orders", wide = true }
"#;

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    parse(text, Path::new("etc/twohop.toml"), variables, &Overrides::default())
}

fn message(text: &str, variables: &[(&str, &str)]) -> String {
    parse_with(text, variables).expect_err("the configuration is wrong").to_string()
}

#[test]
fn what_is_not_said_has_a_default_and_paths_begin_at_the_files_folder() {
    let config = parse_with(FIVE_LINES, &[]).expect("the configuration is right");
    assert_eq!(config.data, Path::new("etc/twohop-data"));
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.log.bytes_max, limits::LOG_BYTES_MAX);
    let source = &config.sources["shop"];
    assert_eq!((&source.slot, &source.publication), (&None, &None));
    assert_eq!(source.snapshot, Snapshot::Initial);
    let plugin = &config.plugins["row-router"];
    assert_eq!(plugin.file, Path::new("etc/row-router.wasm"));
    let settings = [("tables".to_owned(), "orders".to_owned()), ("wide".to_owned(), "true".to_owned())];
    assert_eq!(plugin.settings, settings.into());
    assert_eq!(plugin.profile, Profile::Small);
}

#[test]
fn a_variable_overrides_the_file_and_a_flag_overrides_both() {
    let variables = [
        ("TWOHOP_GATEWAY_LISTEN", "127.0.0.1:9000"),
        ("TWOHOP_SOURCE_SHOP_URL", "postgres://other/shop"),
        ("TWOHOP_SOURCE_SHOP_TABLES", "a, b.c"),
        ("TWOHOP_PLUGIN_ROW_ROUTER_FILE", "/x.wasm"),
        ("TWOHOP_PLUGIN_ROW_ROUTER_PROFILE", "large"),
        ("TWOHOP_HISTORY_COUNT_MAX", "7"),
        ("TWOHOP_HISTORY_VALUES_COUNT_MAX", "8"),
        ("TWOHOP_PRESENCE_CHANNELS", "room:*, lobby"),
    ];
    let config = parse_with(FIVE_LINES, &variables).expect("the configuration is right");
    assert_eq!(config.gateway.listen.port(), 9000);
    assert_eq!(config.sources["shop"].url, "postgres://other/shop");
    assert_eq!(config.sources["shop"].tables, ["a", "b.c"]);
    assert_eq!(config.plugins["row-router"].file, Path::new("/x.wasm"));
    assert_eq!(config.plugins["row-router"].profile, Profile::Large);
    assert_eq!((config.history.count_max, config.history.values_count_max), (7, 8));
    assert_eq!(config.presence.channels, ["room:*", "lobby"]);
    let refused = parse_with("presence.grace = \"301s\"", &[]).expect_err("it is too long");
    assert_eq!(refused.to_string(), "presence.grace: is above 300s");

    let overrides = Overrides { data: Some("d".into()), listen: Some(([127, 0, 0, 1], 1).into()) };
    let variables = [("TWOHOP_GATEWAY_LISTEN".to_owned(), "127.0.0.1:9000".to_owned())];
    let config = parse(FIVE_LINES, Path::new("twohop.toml"), variables, &overrides).expect("it is right");
    assert_eq!(config.gateway.listen.port(), 1);
    assert_eq!(config.data, Path::new("d"));
}

#[test]
fn a_variable_stands_for_either_of_two_keys_and_a_name_of_digits_is_a_name() {
    let in_a_file = "[source.shop]\nurl_file = \"/nowhere\"\ntables = [\"t\"]";
    let variables = [("TWOHOP_SOURCE_SHOP_URL", "postgres://db"), ("TWOHOP_SOURCE_SHOP_SLOT", "123")];
    let config = parse_with(in_a_file, &variables).expect("the variable's key counts");
    assert_eq!(config.sources["shop"].url, "postgres://db");
    assert_eq!(config.sources["shop"].slot.as_deref(), Some("123"));
    let config = parse_with("", &[("TWOHOP_LOG_BYTES_MAX", "16777216")]).expect("it is right");
    assert_eq!(config.log.bytes_max, 16 << 20);
}

#[test]
fn the_example_that_ships_names_the_component_that_is_built() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/orders/twohop.toml"));
    let text = std::fs::read_to_string(file).expect("the example is there");
    let config = parse(&text, file, [], &Overrides::default()).expect("the example is right");
    let built = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/plugins/row-router.wasm"));
    let parts = |path: &Path| {
        path.components().fold(PathBuf::new(), |mut path, part| {
            if part.as_os_str() == ".." {
                path.pop();
            } else {
                path.push(part);
            }
            path
        })
    };
    assert_eq!(parts(&config.plugins["row-router"].file), parts(built));
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest_known_one() {
    assert_eq!(
        message("[gateway]\nlisten_on = \"127.0.0.1:1\"", &[]),
        "etc/twohop.toml: unknown key `gateway.listen_on`; did you mean `gateway.listen`?"
    );
    assert_eq!(
        message("[source.shop]\nurl = \"\"\ntabels = []", &[]),
        "etc/twohop.toml: unknown key `source.shop.tabels`; did you mean `source.shop.tables`?"
    );
    assert_eq!(
        message("[gatway]\nlisten = \"127.0.0.1:1\"", &[]),
        "etc/twohop.toml: unknown key `gatway`; did you mean `gateway`?"
    );
    assert_eq!(
        message("", &[("TWOHOP_GATEWAY_LISTN", "x")]),
        "TWOHOP_GATEWAY_LISTN: unknown key `gateway.listn`; did you mean `gateway.listen`?"
    );
}

#[test]
fn a_wrong_value_is_an_error_that_says_where() {
    let text = message("[gateway]\nlisten = 80", &[]);
    assert!(text.contains("etc/twohop.toml") && text.contains("line 2"), "{text}");
    let text = message("[log]\nage_max = \"soon\"", &[]);
    assert!(text.contains("`soon` is not a duration such as `15s` or `24h`"), "{text}");
    let text = message("", &[("TWOHOP_GATEWAY_LISTEN", "nowhere")]);
    assert!(text.starts_with("TWOHOP_GATEWAY_LISTEN: ") && text.contains("gateway.listen"), "{text}");
    assert_eq!(message("[source.shop]\nurl = \"x\"\ntables = []", &[]), "source.shop.tables: names no table");
    assert_eq!(message("[source.shop]\ntables = [\"t\"]", &[]), "source.shop: needs `url` or `url_file`");
    let both = "[source.shop]\nurl = \"x\"\nurl_file = \"y\"\ntables = [\"t\"]";
    assert_eq!(message(both, &[]), "source.shop: has `url` and `url_file`: keep one");
    for section in ["gateway = 5", "source = \"postgres://db\""] {
        let text = message(section, &[]);
        assert!(text.contains("is a section: write ["), "{text}");
    }
    for heartbeat in ["0s", "60s"] {
        let text = message(&format!("[gateway]\nheartbeat = \"{heartbeat}\""), &[]);
        assert_eq!(text, "gateway.heartbeat: is not from 1s to 20s");
    }
    let text = message("[plugin.p]\nfile = \"x\"\nprofile = \"huge\"", &[]);
    assert!(text.contains("unknown variant `huge`, expected `small` or `large`"), "{text}");
    assert!(message("[plugin.\"A b\"]\nfile = \"x\"", &[]).starts_with("plugin.A b: a name has 1 to "));
}

#[test]
fn sizes_and_durations_have_units() {
    let config = parse_with("[log]\nbytes_max = \"512MiB\"\nage_max = \"90m\"", &[]).expect("it is right");
    assert_eq!(config.log.bytes_max, 512 << 20);
    assert_eq!(config.log.age_max, Duration::from_secs(5_400));
}

#[test]
fn a_plugin_may_publish_everywhere_and_nothing_else_unless_it_is_said() {
    let plugin = |text: &str| {
        let text = format!("[plugin.p]\nfile = \"p.wasm\"\n{text}");
        parse_with(&text, &[]).expect("it is right").plugins["p"].clone()
    };
    assert_eq!((plugin("").order, plugin("").on_fault), (0, OnFault::SetAside));
    assert_eq!(plugin("").grants, Grants::default());
    let said = plugin("order = -1\non_fault = \"pause\"\ngrants = { channels = [\"a:*\"], audience = true }");
    assert_eq!((said.order, said.on_fault), (-1, OnFault::Pause));
    let channels = vec!["a:*".to_owned()];
    assert_eq!(said.grants, Grants { channels, audience: true, ..Grants::default() });
    assert_eq!(
        message("[plugin.p]\nfile = \"x\"\n[plugin.p.grants]\nchannel = []", &[]),
        "etc/twohop.toml: unknown key `plugin.p.grants.channel`; did you mean `plugin.p.grants.channels`?"
    );
}

#[test]
fn a_variable_can_be_a_list_or_a_truth_value() {
    let variables = [
        ("TWOHOP_PLUGIN_ROW_ROUTER_GRANTS_CHANNELS", "a, b:*"),
        ("TWOHOP_PLUGIN_ROW_ROUTER_GRANTS_AUDIENCE", "true"),
    ];
    let config = parse_with(FIVE_LINES, &variables).expect("the configuration is right");
    let grants = &config.plugins["row-router"].grants;
    assert_eq!((grants.channels.as_slice(), grants.audience), (&["a".into(), "b:*".into()][..], true));
}

#[test]
fn nobody_may_listen_unless_it_is_said_and_the_secret_is_read_and_not_printed() {
    let config = parse_with(FIVE_LINES, &[]).expect("the configuration is right");
    let access = Access { leeway: limits::TOKEN_LEEWAY, ..Access::default() };
    assert_eq!(config.gateway.access, access);

    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, "  whisper\n").expect("it can be written");
    let text = format!(
        "gateway.access.anonymous = [\"*\"]\ngateway.access.leeway = \"1m\"\ngateway.access.secret_file = \"{}\"",
        file.display()
    );
    let access = parse_with(&text, &[]).expect("it is right").gateway.access;
    assert_eq!(
        (access.anonymous.as_slice(), access.leeway),
        (&["*".to_owned()][..], Duration::from_secs(60))
    );
    assert_eq!(access.secret.as_ref().map(|Secret(text)| text.as_str()), Some("whisper"));
    assert!(!format!("{access:?}").contains("whisper"));

    let variables = [("TWOHOP_GATEWAY_ACCESS_ANONYMOUS", "a, b:*"), ("TWOHOP_GATEWAY_ACCESS_AUDIENCE", "us")];
    let access = parse_with(FIVE_LINES, &variables).expect("it is right").gateway.access;
    assert_eq!((access.anonymous, access.audience), (vec!["a".into(), "b:*".into()], Some("us".into())));
    assert_eq!(
        message("[gateway.access]\nanonymus = []", &[]),
        "etc/twohop.toml: unknown key `gateway.access.anonymus`; did you mean `gateway.access.anonymous`?"
    );
    let missing = message("[gateway.access]\nsecret_file = \"/nowhere\"", &[]);
    assert!(missing.starts_with("gateway.access.secret_file: /nowhere: "), "{missing}");
}

#[test]
fn how_much_a_client_may_say_is_bounded() {
    let publish = parse_with("[gateway.publish]\nrate = 100", &[]).expect("it is right").gateway.publish;
    assert_eq!(publish, Publish { rate: 100, burst: 50 });
    let unfit = message("gateway.publish.burst = 0", &[]);
    assert_eq!(unfit, "gateway.publish.burst: is not from 1 to 1000000");
}

#[test]
fn no_source_can_have_the_name_of_the_one_that_clients_are() {
    let refused = message("[source.\"$client\"]\nurl = \"x\"\ntables = [\"t\"]", &[]);
    assert!(refused.starts_with("source.$client: a name has 1 to "), "{refused}");
}

#[test]
fn a_url_is_not_printed() {
    let config = parse_with(FIVE_LINES, &[]).expect("the configuration is right");
    assert!(!format!("{config:?}").contains("app:secret"));
}

#[test]
fn a_source_is_of_one_kind_and_has_only_its_keys() {
    let polled = "[source.jobs]\nkind = \"polling\"\nurl = \"postgres://a:b@db/x\"\noutbox = { table = \"o\", id = \"n\" }\n";
    let variables =
        [("TWOHOP_SOURCE_JOBS_POLLING_INTERVAL", "20ms"), ("TWOHOP_SOURCE_JOBS_OUTBOX_BODY", "said")];
    let config = parse_with(polled, &variables).expect("it is right");
    let jobs = &config.polling["jobs"];
    assert!(config.sources.is_empty() && config.notify.is_empty());
    assert_eq!((jobs.interval, jobs.status.as_str()), (Duration::from_millis(20), "status"));
    let Outbox { table, channel, id, body, .. } = &jobs.outbox;
    assert_eq!([table, channel, id, body], ["o", "aggregatetype", "n", "said"]);
    assert!(!format!("{config:?}").contains("a:b"));

    let notify = "[source.signals]\nkind = \"notify\"\nurl = \"x\"\n";
    let heard = parse_with(&format!("{notify}channels = [\"a\"]"), &[]).expect("it is right");
    assert_eq!(heard.notify["signals"].channels, ["a"]);
    assert_eq!(message(notify, &[]), "source.signals.channels: names no channel");
    let unfit = message(&format!("{polled}polling = {{ interval = \"0s\" }}"), &[]);
    assert_eq!(unfit, "source.jobs.polling.interval: is not from 10ms to 1h");
    let unfit = message(&format!("{notify}channels = [\"a\"]\nslot = \"s\""), &[]);
    assert_eq!(unfit, "source.signals.slot: means nothing for a source of this `kind`");
    let bare =
        parse_with("[source.shop]\nurl = \"x\"\noutbox = { table = \"o\" }", &[]).expect("it is right");
    assert!(bare.sources["shop"].outbox.is_some() && bare.sources["shop"].tables.is_empty());
    assert_eq!(message("[source.shop]\nurl = \"x\"", &[]), "source.shop.tables: names no table");
}

#[test]
fn the_reference_in_the_docs_is_current() {
    let mut reference = String::from(
        "# Configuration\n\n`twohop.toml`, overridden by variables (`gateway.listen` is `TWOHOP_GATEWAY_LISTEN`), \
         overridden by flags. An unknown key is an error. Sizes are numbers or `512MiB`, durations `15s`, `24h`. \
         `*` is a name of your choice, which a variable can use but not add; a plugin's settings are the file's.\n\n| key | default | what it is |\n|---|---|---|\n",
    );
    for (key, default, text) in KEYS {
        reference.push_str(&format!("| `{key}` | {default} | {text} |\n"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, reference, "write the right side to docs/configuration.md");
}

#[test]
fn tls_needs_both_files_which_begin_at_the_folder() {
    let both = "[gateway.tls]\ncertificate_file = \"a.pem\"\nkey_file = \"/b.key\"\n";
    let config = parse_with(&format!("{FIVE_LINES}{both}"), &[]).expect("the configuration is right");
    let tls = config.gateway.tls.expect("it is said");
    assert_eq!((tls.certificate_file, tls.key_file), ("etc/a.pem".into(), "/b.key".into()));
    for (line, missing) in [("certificate_file", "key_file"), ("key_file", "certificate_file")] {
        assert_eq!(
            message(&format!("{FIVE_LINES}[gateway.tls]\n{line} = \"a\"\n"), &[]),
            format!("gateway.tls.{missing}: is missing: TLS needs both files")
        );
    }
}

#[test]
fn limits_and_proxies_come_from_the_file_or_from_variables() {
    let lines = "[gateway.limits]\nconnections = 7\nrequests_per_second = 5\n[gateway.proxies]\nheader = \"forwarded\"\n";
    let variables = [
        ("TWOHOP_GATEWAY_LIMITS_STREAMS_PER_SUBJECT", "3"),
        ("TWOHOP_GATEWAY_PROXIES_TRUSTED", "10.0.0.0/8, ::1"),
    ];
    let config = parse_with(&format!("{FIVE_LINES}{lines}"), &variables).expect("the configuration is right");
    let Limits { connections, streams_per_subject, requests_per_second, requests_burst, .. } =
        config.gateway.limits;
    let counts = [connections, streams_per_subject, requests_per_second, requests_burst];
    assert_eq!(counts.map(|count| count.map(std::num::NonZeroU32::get)), [Some(7), Some(3), Some(5), None]);
    let trusted = vec!["10.0.0.0/8".to_owned(), "::1".to_owned()];
    assert_eq!(config.gateway.proxies, Proxies { trusted, header: ProxyHeader::Forwarded });
    assert!(message(&format!("{FIVE_LINES}[gateway.limits]\nconnections = 0\n"), &[]).contains("nonzero"));
}
