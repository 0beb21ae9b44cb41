//! Who reaches which channels: by example, against a slow and obvious model, and with values that try to reach further.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use twohop_plugin::Time;
use twohop_plugin::testing::Policy;

use super::*;

const PATTERNS: &str = "public:*, user:{sub}, team:{teams}, team:{teams}:*";

fn configured(settings: &[(&str, &str)]) -> Result<Policy<ClaimsGate>, String> {
    Policy::configure(settings.iter().copied())
}

fn gate(settings: &[(&str, &str)]) -> Policy<ClaimsGate> {
    configured(settings).expect("settings that are right")
}

fn listening(subscribe: &str) -> Policy<ClaimsGate> {
    gate(&[("subscribe", subscribe)])
}

fn with(claims: &serde_json::Value) -> Connection {
    Connection::of("somebody").claims(claims.to_string())
}

fn ann() -> Connection {
    with(&json!({ "sub": "ann", "teams": ["red", "7"], "exp": 1_700_000_000 }))
}

fn reaches(gate: &Policy<ClaimsGate>, connection: &Connection, request: &Request) -> bool {
    gate.admit(connection, request).is_ok()
}

#[test]
fn whoever_is_known_reaches_what_is_public_theirs_and_their_teams() {
    let gate = listening(PATTERNS);
    for channel in ["public:news", "public:", "user:ann", "team:red", "team:7", "team:red:", "team:red:a:b"] {
        assert!(reaches(&gate, &ann(), &Request::channel(channel)), "{channel}");
    }
    for channel in
        ["public", "user:bob", "user:ann:x", "user:", "user", "team:blue", "team:red2", "orders", ""]
    {
        assert!(!reaches(&gate, &ann(), &Request::channel(channel)), "{channel}");
    }
}

#[test]
fn whoever_is_unknown_reaches_only_what_needs_no_claims_and_may_come_again() {
    let gate = listening(PATTERNS);
    let pretending = Connection::anonymous().claims(r#"{"sub":"ann","teams":["red"]}"#);
    for connection in [Connection::anonymous(), pretending] {
        assert!(reaches(&gate, &connection, &Request::channel("public:news")));
        for channel in ["user:ann", "team:red", "user:"] {
            let refused = gate.admit(&connection, &Request::channel(channel));
            assert_eq!(refused, Err(Refusal::Unauthenticated), "{channel}");
        }
    }
}

#[test]
fn whoever_is_known_and_may_not_is_told_so() {
    let refused = listening(PATTERNS).admit(&ann(), &Request::channel("user:bob"));
    let why = "the claims of this connection do not cover all that it asks to listen to";
    assert_eq!(refused, Err(Refusal::Forbidden(why.to_owned())));
}

#[test]
fn what_is_for_followers_is_for_those_who_follow() {
    let gate = gate(&[("subscribe", "people:{sub}"), ("followers", "people:*"), ("presence", "people:*")]);
    let admit = |request: &Request| gate.admit(&ann(), request);
    assert!(admit(&Request::channel("people:bob").follows()).is_ok_and(|grant| grant.until.is_some()));
    assert!(admit(&Request::channel("people:ann")).is_ok(), "it is hers");
    let why = "only those who follow may listen to this channel";
    assert_eq!(admit(&Request::channel("people:bob")), Err(Refusal::Forbidden(why.to_owned())));
    assert!(admit(&Request::channel("orders:bob").follows()).is_err(), "it is not for followers");
    let anonymous = gate.admit(&Connection::anonymous(), &Request::channel("people:bob"));
    assert_eq!(anonymous, Err(Refusal::Unauthenticated));
    assert!(configured(&[("followers", "people:*")]).is_ok(), "nothing else need be open");
    let overlapping = configured(&[("subscribe", "people:{sub}"), ("followers", "people:admin")]);
    assert!(overlapping.expect_err("it overlaps").contains("overlap"));
}

#[test]
fn a_prefix_is_reached_only_where_a_pattern_covers_all_of_it() {
    let gate = listening(PATTERNS);
    for prefix in ["public:", "public:n", "team:red:", "team:red:a"] {
        assert!(reaches(&gate, &ann(), &Request::prefix(prefix)), "{prefix}");
    }
    for prefix in ["", "p", "public", "user:ann", "user:ann:", "team:red", "team:", "team:blue:"] {
        assert!(!reaches(&gate, &ann(), &Request::prefix(prefix)), "{prefix}");
    }
    assert!(reaches(&listening("*"), &Connection::anonymous(), &Request::prefix("")));
}

#[test]
fn a_grant_ends_with_the_token_and_says_what_else_the_claims_cover() {
    let settings =
        [("subscribe", "*"), ("publish", "team:{teams}:*"), ("presence", "user:{sub}, team:{teams}:*")];
    let gate = gate(&settings);
    let until = Some(Time::from_micros(1_700_000_000_000_000));
    let granted = |channel: &str| gate.admit(&ann(), &Request::channel(channel)).expect("all may listen");
    let listen = Grant { history: true, presence: false, publish: false, until };
    assert_eq!(granted("orders"), listen);
    assert_eq!(granted("user:ann"), Grant { presence: true, ..listen });
    assert_eq!(granted("team:red:chat"), Grant { presence: true, publish: true, ..listen });
    let anonymous = gate.admit(&Connection::anonymous(), &Request::channel("user:ann"));
    assert_eq!(anonymous, Ok(Grant { until: None, ..listen }));
    let whole_team = gate.admit(&ann(), &Request::prefix("team:red:"));
    assert_eq!(whole_team, Ok(Grant { presence: true, publish: true, ..listen }));
    assert_eq!(gate.admit(&ann(), &Request::prefix("team:")), Ok(listen));
}

#[test]
fn claims_that_cannot_be_read_grant_nothing_not_even_what_is_public() {
    let gate = gate(&[("subscribe", "public:*"), ("publish", "public:*")]);
    for claims in ["", "[]", r#"{"sub":"ann","sub":"bob"}"#, r#"{"exp":"soon"}"#] {
        let connection = Connection::of("ann").claims(claims);
        let request = Request::channel("public:news");
        assert!(matches!(gate.admit(&connection, &request), Err(Refusal::Forbidden(_))), "{claims}");
        let received = gate.receive(&connection, &request.event("said"), b"hello");
        assert!(matches!(received, Err(Refusal::Forbidden(_))), "{claims}");
    }
}

#[test]
fn a_message_is_taken_where_the_claims_cover_sending_whether_or_not_listening() {
    let gate = gate(&[("subscribe", "public:*"), ("publish", "inbox, user:{sub}")]);
    let receive = |connection: &Connection, channel: &str| {
        gate.receive(connection, &Request::channel(channel).event("said"), b"")
    };
    assert_eq!(receive(&ann(), "user:ann"), Ok(Reception::Keep));
    assert_eq!(receive(&Connection::anonymous(), "inbox"), Ok(Reception::Keep));
    assert!(matches!(receive(&ann(), "user:bob"), Err(Refusal::Forbidden(_))));
    assert!(matches!(receive(&ann(), "public:news"), Err(Refusal::Forbidden(_))));
    assert_eq!(receive(&Connection::anonymous(), "user:ann"), Err(Refusal::Unauthenticated));
}

#[test]
fn without_a_setting_nobody_may_send() {
    let received = listening("*").receive(&ann(), &Request::channel("user:ann").event("said"), b"");
    assert!(matches!(received, Err(Refusal::Forbidden(_))));
}

#[test]
fn events_that_the_setting_names_are_not_kept() {
    let gate = gate(&[("subscribe", "*"), ("publish", "*"), ("ephemeral", "typing, cursor:*")]);
    let receive = |event| gate.receive(&ann(), &Request::channel("room").event(event), b"");
    for event in ["typing", "cursor:", "cursor:moved"] {
        assert_eq!(receive(event), Ok(Reception::Ephemeral), "{event}");
    }
    for event in ["", "typing2", "cursor", "said"] {
        assert_eq!(receive(event), Ok(Reception::Keep), "{event}");
    }
}

#[test]
fn settings_that_are_wrong_are_refused() {
    let refusal = |settings: &[(&str, &str)]| configured(settings).expect_err("settings that are wrong");
    assert_eq!(refusal(&[]), "the setting `subscribe` is required");
    assert_eq!(
        refusal(&[("subscribe", "a"), ("publish", "user:{sub}*")]),
        "the setting `publish` has the pattern `user:{sub}*`: a claim is all that stands between two `:`, such as \
         `team:{teams}` or `team:{teams}:*`, since what follows it would else go on with another value"
    );
    assert!(
        refusal(&[("subscribe", "public:*"), ("publish", "{tenant}:*")])
            .contains("overlap: whoever has `public`")
    );
    assert!(refusal(&[("subscribe", "a"), ("ephemeral", "*a")]).contains("`*` stands only at its end"));
    assert!(refusal(&[("subscribe", "a"), ("subscribes", "b")]).contains("`subscribes` is not known"));
}

/// A value of a claim that may try anything.
fn any_value() -> impl Strategy<Value = String> {
    let tricks = [
        "", "*", ":", "{sub}", "{teams}", "ann:*", "ann:", ":ann", "a\nb", "\0", "ann", "an", "ann2",
        "public",
    ];
    prop_oneof![prop::sample::select(tricks.to_vec()).prop_map(str::to_owned), ".{0,6}", "[ab:*{}]{0,4}"]
}

/// The parts of a pattern, of which some are claims; and what follows them.
fn any_pattern() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "ab", "", "{c}", "{d}"]);
    let end = prop::sample::select(vec!["", ":*", ":a*"]);
    let pattern = (vec(part, 1..4), end).prop_map(|(parts, end)| parts.join(":") + end);
    pattern.prop_filter("an entry of a setting is not empty", |pattern| !pattern.is_empty())
}

fn any_channel() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "ab", "", "*", "{c}", "a*"]);
    prop_oneof![vec(part, 1..5).prop_map(|parts| parts.join(":")), ".{0,6}"]
}

fn request(channel: &str, prefix: bool) -> Request {
    if prefix { Request::prefix(channel) } else { Request::channel(channel) }
}

/// Every text that a pattern may stand for, by putting in values one after the other.
fn expanded(pattern: &str, values: &[(&str, &[String])]) -> Vec<String> {
    let mut texts = vec![pattern.to_owned()];
    for (claim, values) in values {
        let usable = values.iter().filter(|value| {
            !value.is_empty() && !value.contains([':', '*', '{', '}']) && !value.chars().any(char::is_control)
        });
        let usable: Vec<&String> = usable.collect();
        let holder = format!("{{{claim}}}");
        while let Some(at) = texts.iter().position(|text| text.contains(&holder)) {
            let text = texts.swap_remove(at);
            texts.extend(usable.iter().map(|value| text.replacen(&holder, value, 1)));
        }
    }
    texts
}

fn model(pattern: &str, values: &[(&str, &[String])], request: &Request) -> bool {
    expanded(pattern, values).iter().any(|text| match text.strip_suffix('*') {
        Some(prefix) => request.channel.starts_with(prefix),
        None => request.channel == *text && !request.prefix,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_reached_is_what_the_model_reaches(
        pattern in any_pattern(), channel in any_channel(), prefix: bool,
        c in vec(prop_oneof!["[ab]{1,2}", any_value()], 0..3), d in vec(any_value(), 0..3),
    ) {
        let (gate, request) = (listening(&pattern), request(&channel, prefix));
        let reached = reaches(&gate, &with(&json!({ "c": c, "d": d })), &request);
        prop_assert_eq!(reached, model(&pattern, &[("c", &c), ("d", &d)], &request));
        let unknown = reaches(&gate, &Connection::anonymous(), &request);
        prop_assert_eq!(unknown, !pattern.contains('{') && model(&pattern, &[], &request));
    }

    #[test]
    fn no_value_reaches_what_another_values_pattern_is_for(
        mine in any_value(), theirs in any_value(), rest in any_channel(), prefix: bool,
        pattern in prop::sample::select(vec!["user:{c}", "user:{c}:*", "user:{c}:a*", "user:{c}:a", "{c}:*", "a:b:{c}"]),
    ) {
        prop_assume!(mine != theirs);
        let gate = listening(pattern);
        let end = if pattern.ends_with('*') { rest } else { String::new() };
        let channel = pattern.trim_end_matches('*').replace("{c}", &theirs) + &end;
        let request = request(&channel, prefix);
        let is_reached = |value: &str| reaches(&gate, &with(&json!({ "c": value })), &request);
        prop_assert!(!(is_reached(&mine) && is_reached(&theirs)), "both reach {:?}", request);
        // With a name that holds a whole value and no more, nobody but that value has it.
        if !theirs.contains(':') {
            prop_assert!(!is_reached(&mine), "{:?} reaches {:?}", mine, request);
        }
    }

    #[test]
    fn a_value_with_a_character_of_patterns_reaches_no_more_than_no_value(
        before in ".{0,3}", trick in prop::sample::select(vec![":", "*", "{", "}", "\n", "\0", "\u{7f}", "\u{85}"]),
        after in ".{0,3}", channel in any_channel(), prefix: bool, is_own: bool,
    ) {
        let value = format!("{before}{trick}{after}");
        let gate = listening("public:*, user:{c}, user:{c}:*, team:{c}:a");
        let channel = if is_own { format!("user:{value}") } else { channel };
        let request = request(&channel, prefix);
        let with_it = reaches(&gate, &with(&json!({ "c": [value] })), &request);
        prop_assert_eq!(with_it, reaches(&gate, &with(&json!({})), &request));
    }

    #[test]
    fn a_prefix_that_is_reached_reaches_every_channel_that_begins_so(
        pattern in any_pattern(), prefix in any_channel(), rest in any_channel(), c in vec("[ab]{1,2}", 0..3),
    ) {
        let (gate, connection) = (listening(&pattern), with(&json!({ "c": c, "d": c })));
        if reaches(&gate, &connection, &Request::prefix(&prefix)) {
            prop_assert!(reaches(&gate, &connection, &Request::channel(&(prefix + &rest))));
        }
    }

    #[test]
    fn claims_of_any_text_neither_panic_nor_reach_what_they_do_not_name(
        claims in prop_oneof![".*", r#"\{("[sc]":["\[\]{}:,a1*]{0,6},?){0,3}\}"#], channel in any_channel(),
    ) {
        let gate = listening("public:*, user:{sub}");
        let connection = Connection::of("ann").claims(&claims);
        if reaches(&gate, &connection, &Request::channel(&format!("user:{channel}"))) {
            prop_assert!(claims.contains("sub") || claims.contains('\\'));
        }
    }
}
