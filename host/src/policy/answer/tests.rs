//! Every rule of a router's answer, spoiled once.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::bindings::exports::twohop::policy::router::Outcome;
use super::super::route::{CacheKeys, Entry, Payload, Route};
use super::*;
use crate::event::{Channel, ChannelError, Micros, Retention};
use crate::limits::{
    ID_BYTES_MAX, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX, ROUTES_PER_CHANGE_MAX, SHARED_TEXT_BYTES_MAX,
    TOPIC_BYTES_MAX,
};

fn span(start: u64, length: u64) -> u64 {
    start | length << 32
}

/// One route for the first of two changes, which each test spoils.
pub(in crate::policy) fn outcome() -> Outcome {
    let arena = b"orders:1insert{\"a\":1}\xFF".to_vec();
    Outcome {
        changes: vec![0],
        kinds: vec![0],
        options: vec![3],
        spans: vec![span(0, 8), span(8, 6), span(14, 7), 0],
        numbers: vec![0],
        attributed_routes: vec![],
        attributes: vec![],
        arena,
    }
}

#[derive(Debug, PartialEq)]
struct Answer {
    routes: Vec<(usize, Route)>,
    rejected: Vec<Rejected>,
}

fn check(outcome: &Outcome) -> Result<Answer, AnswerError> {
    let members = [0, 1].map(Member::without_match);
    let mut routes = Routes::default();
    let rejected = super::routes(outcome.clone(), Asked { plugin: 0, members: &members }, &mut routes);
    assert!(rejected.is_ok() || routes.is_empty(), "a wrong answer leaves nothing");
    let routes = routes.iter().map(|directed| (directed.change(), directed.route())).collect();
    rejected.map(|rejected| Answer { routes, rejected })
}

fn spoiled(spoil: impl FnOnce(&mut Outcome)) -> AnswerError {
    let mut outcome = outcome();
    spoil(&mut outcome);
    check(&outcome).expect_err("it is spoiled")
}

#[test]
fn every_part_of_a_route_is_read() {
    let answer = check(&outcome()).expect("it is right");
    let route = Route::Channel {
        channel: Channel::new("orders:1").expect("it is one"),
        event: "insert".into(),
        payload: Payload::Json("{\"a\":1}".into()),
        retention: Retention::Kept,
    };
    assert_eq!(answer.routes, [(0, route)]);
    for (options, payload, retention) in [
        (0, Payload::Row, Retention::Kept),
        (1, Payload::Envelope, Retention::Kept),
        (2, Payload::Nothing, Retention::Kept),
        (4 | 1 << 3, Payload::Text("{\"a\":1}".into()), Retention::LiveOnly),
        (5, Payload::Bytes("{\"a\":1}".into()), Retention::Kept),
        (2 << 3, Payload::Row, Retention::Value),
        (3 | 3 << 3, Payload::Json("{\"a\":1}".into()), Retention::Forget),
    ] {
        let mut outcome = outcome();
        outcome.options = vec![options];
        if options & 0b111 < 3 {
            outcome.spans[2] = 0;
        }
        let answer = check(&outcome).expect("it is right");
        let (read, kept) = match &answer.routes[0].1 {
            Route::Channel { payload, retention, .. } => (payload, *retention),
            other => panic!("{other} is for no channel"),
        };
        assert_eq!((read, kept), (&payload, retention));
    }
}

#[test]
fn channels_share_a_short_text_and_copy_their_name_from_a_long_one_or_from_bytes() {
    let place = |answer: &Answer, route: usize| {
        let Route::Channel { channel, .. } = &answer.routes[route].1 else { panic!("it is for a channel") };
        assert_eq!(channel.as_str(), "orders:1");
        channel.as_str().as_ptr()
    };
    let twice = |arena: Vec<u8>| {
        let mut outcome = outcome();
        outcome.arena = arena;
        outcome.changes = vec![0, 1];
        outcome.kinds = vec![0; 2];
        outcome.options = vec![0; 2];
        outcome.spans = [8 << 32, 8 | 6 << 32, 0, 0].repeat(2);
        outcome.numbers = vec![0; 2];
        let answer = check(&outcome).expect("it is right");
        place(&answer, 0) == place(&answer, 1)
    };
    let names = b"orders:1insert";
    assert!(twice(names.to_vec()));
    assert!(!twice([&names[..], b"\xFF"].concat()));
    assert!(!twice([&names[..], &vec![b' '; SHARED_TEXT_BYTES_MAX]].concat()));
}

#[test]
fn a_plain_route_after_another_is_checked_as_the_first_is() {
    let plain = |count: usize| Outcome {
        changes: vec![1; count],
        kinds: vec![0; count],
        options: vec![0; count],
        spans: [8 << 32, 8 | 6 << 32, 0, 0].repeat(count),
        numbers: vec![0; count],
        attributed_routes: vec![],
        attributes: vec![],
        arena: b"orders:1insert".to_vec(),
    };
    assert_eq!(check(&plain(2)).expect("both are right").routes.len(), 2);
    let spoils: [fn(&mut Outcome, usize); 10] = [
        |o, at| {
            o.arena.extend(*b"$own");
            o.spans[4 * at] = 14 | 4 << 32;
        },
        |o, at| o.options[at] = 1 << 5,
        |o, at| o.options[at] = 3,
        |o, at| o.numbers[at] = -1,
        |o, at| o.spans[4 * at] = 0,
        |o, at| o.spans[4 * at] = 14 | 1 << 32,
        |o, at| o.spans[4 * at] = u64::MAX,
        |o, at| o.spans[4 * at + 1] = 14 | 1 << 32,
        |o, at| o.spans[4 * at + 2] = 1 << 32,
        |o, at| o.spans[4 * at + 3] = 1,
    ];
    for (nth, spoil) in spoils.into_iter().enumerate() {
        let error = |count: usize| {
            let (mut outcome, route) = (plain(count), count - 1);
            spoil(&mut outcome, route);
            let error = check(&outcome).expect_err("it is spoiled").to_string();
            error.strip_prefix(&format!("route {route}")).expect("it names the route").to_owned()
        };
        assert_eq!(error(1), error(2), "spoil {nth}");
    }
    for option in 1..=3 {
        let optional = |count: usize| {
            let mut outcome = plain(count);
            outcome.options[count - 1] = option << 3;
            check(&outcome).expect("it is right").routes.pop()
        };
        assert_eq!(optional(1), optional(2), "an option is not passed over");
    }
}

#[test]
fn lists_that_do_not_fit_each_other_are_refused() {
    let length = |list, length, expected| AnswerError::Length { list, length, expected };
    assert_eq!(spoiled(|o| o.kinds.push(0)), length("kinds", 2, 1));
    assert_eq!(spoiled(|o| o.options.clear()), length("options", 0, 1));
    assert_eq!(spoiled(|o| o.spans.truncate(3)), length("spans", 3, 4));
    assert_eq!(spoiled(|o| o.numbers.push(0)), length("numbers", 2, 1));
    assert_eq!(spoiled(|o| o.changes.clear()), length("kinds", 1, 0));
    assert_eq!(spoiled(|o| o.attributed_routes.push(0)), AnswerError::Attributes(1));
    assert_eq!(spoiled(|o| o.attributes.push(0)), AnswerError::Attributes(1));
}

#[test]
fn routes_for_changes_that_are_not_there_or_out_of_order_are_refused() {
    assert_eq!(spoiled(|o| o.changes[0] = 2), AnswerError::Change { route: 0, change: 2, changes: 2 });
    let twice = |first, second| {
        spoiled(|o| {
            o.changes = vec![first, second];
            o.kinds.push(0);
            o.options.push(3);
            o.spans.extend_from_within(..);
            o.numbers.push(0);
        })
    };
    assert_eq!(twice(1, 0), AnswerError::Descending(1));
}

#[test]
fn a_change_has_a_bounded_number_of_routes() {
    let many = |count: usize| {
        let mut outcome = outcome();
        outcome.changes = vec![1; count];
        outcome.kinds = vec![0; count];
        outcome.options = vec![3; count];
        outcome.spans = outcome.spans.repeat(count);
        outcome.numbers = vec![0; count];
        check(&outcome)
    };
    assert!(many(ROUTES_PER_CHANGE_MAX).is_ok());
    assert_eq!(many(ROUTES_PER_CHANGE_MAX + 1), Err(AnswerError::TooMany(1)));
}

#[test]
fn spans_stay_in_the_arena_and_text_is_text() {
    let span = |what| AnswerError::Span { route: 0, what, problem: SpanError::Leaves };
    assert_eq!(spoiled(|o| o.spans[0] = 22 | 1 << 32), span("channel"));
    assert_eq!(spoiled(|o| o.spans[0] = 23), span("channel"));
    assert_eq!(spoiled(|o| o.spans[1] = u64::MAX), span("event"));
    assert_eq!(spoiled(|o| o.spans[2] = 0xFFFF_FFFF | 1 << 32), span("payload"));
    let text = |what| AnswerError::Span { route: 0, what, problem: SpanError::Text };
    assert_eq!(spoiled(|o| o.spans[1] = 21 | 1 << 32), text("event"));
    assert_eq!(spoiled(|o| o.spans[3] = 1), AnswerError::NotZero { route: 0, what: "unused spans" });
    assert_eq!(spoiled(|o| o.options[0] = 0), AnswerError::NotZero { route: 0, what: "payload's span" });
    assert_eq!(spoiled(|o| o.numbers[0] = 1), AnswerError::NotZero { route: 0, what: "number" });
    for part in [1 | 4 << 32, 1] {
        let half = |o: &mut Outcome| {
            o.arena = "äö".repeat(8).into_bytes();
            o.spans[0] = part;
        };
        assert_eq!(spoiled(half), text("channel"), "a span begins and ends between two characters");
    }
}

#[test]
fn names_and_payloads_keep_to_their_rules() {
    let problem = ChannelError::Empty;
    assert_eq!(spoiled(|o| o.spans[0] = 0), AnswerError::Channel { route: 0, problem });
    assert_eq!(spoiled(|o| o.arena[9] = b'\n'), AnswerError::Event(0));
    for name in ["reset", "refused", "presence"] {
        let reserved = |o: &mut Outcome| {
            let start = o.arena.len() as u64;
            o.arena.extend(name.as_bytes());
            o.spans[1] = start | (name.len() as u64) << 32;
        };
        assert_eq!(spoiled(reserved), AnswerError::EventReserved(0), "{name}");
    }
    assert_eq!(spoiled(|o| o.arena[15] = b'a'), AnswerError::Json(0));
    assert_eq!(spoiled(|o| o.spans[2] = 0), AnswerError::Json(0));
    let large = |o: &mut Outcome| {
        o.options[0] = 5;
        o.arena.resize(14 + PAYLOAD_BYTES_MAX + 1, 0);
        o.spans[2] = 14 | (PAYLOAD_BYTES_MAX as u64 + 1) << 32;
    };
    let bytes = PAYLOAD_BYTES_MAX + 1;
    assert_eq!(spoiled(large), AnswerError::PayloadTooLarge { route: 0, bytes });
}

#[test]
fn what_the_interface_does_not_have_is_refused_by_name() {
    assert_eq!(spoiled(|o| o.kinds[0] = 9), AnswerError::Kind { route: 0, kind: 9 });
    assert_eq!(spoiled(|o| o.options[0] = 3 | 1 << 5), AnswerError::Options { route: 0, options: 35 });
    assert_eq!(spoiled(|o| o.options[0] = 6), AnswerError::Options { route: 0, options: 6 });
}

/// One route of each other kind, in the order of the kinds, all of the text `abcdef`.
fn one_of_each() -> Outcome {
    let part = |nth: u64| span(nth, 1);
    let post = [part(0), part(1), part(2)];
    let kinds = vec![1, 2, 3, 4, 5, 6, 6, 7];
    let routes = kinds.len();
    let mut numbers = vec![0; routes];
    numbers[..2].copy_from_slice(&[7, -7]);
    Outcome {
        changes: vec![1; routes],
        options: vec![4, 5, 0, 0, 0, 0, 1 << 5, 4],
        spans: [
            [post[0], post[1], post[2], 0],
            [post[0], post[1], post[2], part(3)],
            [post[0], post[1], 0, 0],
            [part(4), part(5), 0, 0],
            [part(5), part(4), 0, 0],
            [part(3), 0, 0, 0],
            [0; 4],
            [part(0), 0, part(2), 0],
        ]
        .concat(),
        kinds,
        numbers,
        attributed_routes: vec![],
        attributes: vec![],
        arena: b"abcdef".to_vec(),
    }
}

#[test]
fn every_other_kind_of_route_is_read() {
    let entry =
        |payload, time| Box::new(Entry { author: "a".into(), item: "b".into(), payload, time: Micros(time) });
    let name = |name: &str| -> Box<str> { name.into() };
    let answer = check(&one_of_each()).expect("it is right");
    let expected = [
        Route::Audience(entry(Payload::Text("c".into()), 7)),
        Route::Inbox { user: name("d"), entry: entry(Payload::Bytes("c".into()), -7) },
        Route::Retract { author: name("a"), item: name("b") },
        Route::Follow { follower: name("e"), followee: name("f") },
        Route::Unfollow { follower: name("f"), followee: name("e") },
        Route::Cache(CacheKeys::One(name("d"))),
        Route::Cache(CacheKeys::Prefix(name(""))),
        Route::Topic { topic: name("a"), key: name(""), payload: Payload::Text("c".into()) },
    ];
    let channel = |retention| Route::Channel {
        channel: Channel::new("a").expect("it is one"),
        event: "b".into(),
        payload: Payload::Row,
        retention,
    };
    let channels = [Retention::Kept, Retention::LiveOnly, Retention::Value, Retention::Forget].map(channel);
    for route in expected.iter().chain(&channels) {
        let routes = routes_of([(1, 0, route.clone())]);
        let read: Vec<_> = routes.iter().map(|directed| directed.route()).collect();
        assert_eq!(read, std::slice::from_ref(route), "what is lowered reads as it was");
    }
    assert_eq!(answer.routes, expected.map(|route| (1, route)));
    let shown: Vec<_> = answer.routes.iter().map(|(_, route)| route.to_string()).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    audience of a, item b, at 7, text `c`
    inbox of d: a, item b, at -7, 1 bytes
    retract b of a
    e follows f
    f follows e no more
    delete the cache key d
    delete the cache keys *
    topic a, key ``, text `c`
    ");
}

/// Of the routes of [`one_of_each`], that one.
fn spoiled_kind(route: usize, spoil: impl FnOnce(&mut Outcome)) -> AnswerError {
    let mut outcome = one_of_each();
    spoil(&mut outcome);
    let error = check(&outcome).expect_err("it is spoiled");
    assert!(error.to_string().starts_with(&format!("route {route}")), "{error}");
    error
}

#[test]
fn what_a_kind_does_not_use_is_zero() {
    for (route, used) in [3, 4, 2, 2, 2, 1, 1, 3].into_iter().enumerate() {
        for unused in used..4 {
            let error = spoiled_kind(route, |o| o.spans[route * 4 + unused] = 1);
            assert_eq!(error, AnswerError::NotZero { route, what: "unused spans" });
        }
        if route > 1 {
            let error = spoiled_kind(route, |o| o.numbers[route] = 1);
            assert_eq!(error, AnswerError::NotZero { route, what: "number" });
        }
        for options in [1 << 3, 1 << 5, 1 << 6, 0b110] {
            if route == 6 && options == 1 << 5 {
                continue;
            }
            let own = if matches!(route, 5 | 6) { 1 << 6 } else { options };
            let error = spoiled_kind(route, |o| o.options[route] = own);
            assert_eq!(error, AnswerError::Options { route, options: own });
        }
    }
    assert_eq!(
        spoiled_kind(7, |o| o.options[7] = 0),
        AnswerError::NotZero { route: 7, what: "payload's span" }
    );
}

#[test]
fn names_of_every_kind_are_text_of_some_length() {
    let id = ID_BYTES_MAX;
    for (route, span, what, bytes_max) in [
        (0, 0, "author", id),
        (0, 1, "item", id),
        (1, 3, "user", id),
        (2, 0, "author", id),
        (2, 1, "item", id),
        (3, 0, "follower", id),
        (4, 1, "followee", id),
        (5, 0, "key", KEY_BYTES_MAX),
        (7, 0, "topic", TOPIC_BYTES_MAX),
    ] {
        let at = route * 4 + span;
        assert_eq!(spoiled_kind(route, |o| o.spans[at] = 0), AnswerError::Empty { route, what });
        let problem = SpanError::Leaves;
        assert_eq!(
            spoiled_kind(route, |o| o.spans[at] = 7 << 32),
            AnswerError::Span { route, what, problem }
        );
        let problem = SpanError::Text;
        let bytes = |o: &mut Outcome| {
            o.arena.push(0xFF);
            o.spans[at] = 6 | 1 << 32;
        };
        assert_eq!(spoiled_kind(route, bytes), AnswerError::Span { route, what, problem });
        let long = |o: &mut Outcome| {
            o.arena = vec![b'a'; bytes_max + 1];
            o.spans[at] = (bytes_max as u64 + 1) << 32;
        };
        let bytes = bytes_max + 1;
        assert_eq!(spoiled_kind(route, long), AnswerError::TooLong { route, what, bytes, bytes_max });
    }
    for (route, span) in [(6, 0), (7, 1)] {
        let long = |o: &mut Outcome| {
            o.arena = vec![b'a'; KEY_BYTES_MAX + 1];
            o.spans[route * 4 + span] = (KEY_BYTES_MAX as u64 + 1) << 32;
        };
        assert!(matches!(spoiled_kind(route, long), AnswerError::TooLong { what: "key", .. }));
    }
}

#[test]
fn a_rejected_change_has_no_routes_before_or_after() {
    let mut outcome = outcome();
    outcome.changes = vec![0, 1, 1, 1];
    outcome.kinds = vec![0, 0, 8, 0];
    outcome.options = vec![3, 3, 0, 3];
    outcome.spans = outcome.spans.repeat(4);
    outcome.spans[8..12].copy_from_slice(&[8 | 6 << 32, 0, 0, 0]);
    outcome.numbers = vec![0; 4];
    let answer = check(&outcome).expect("it is right");
    let of: Vec<_> = answer.routes.iter().map(|(change, _)| *change).collect();
    assert_eq!(of, [0]);
    assert_eq!(answer.rejected, [(1, Arc::from("insert"))]);
    outcome.spans[8] = 0;
    assert_eq!(check(&outcome), Err(AnswerError::Reason(2)));
}

prop_compose! {
    fn lies()(routes in 0..6_usize)(
        changes in prop::collection::vec(0..4_u32, routes),
        kinds in prop::collection::vec(prop_oneof![Just(0), 1..9_u8, any::<u8>()], routes),
        options in prop::collection::vec(prop_oneof![0..6_u8, Just(32), any::<u8>()], routes),
        spans in prop::collection::vec(
            prop_oneof![Just(0), (0..40_u64, 0..40_u64).prop_map(|(s, l)| s | l << 32), any::<u64>()],
            routes * 4,
        ),
        numbers in prop::collection::vec(prop_oneof![9 => Just(0), 1 => any::<i64>()], routes),
        attributed_routes in prop_oneof![9 => Just(vec![]), 1 => Just(vec![0])],
        arena in prop_oneof![".{0,40}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..40)],
    ) -> Outcome {
        Outcome { changes, kinds, options, spans, numbers, attributed_routes, attributes: vec![], arena }
    }
}

proptest! {
    #[test]
    fn random_answers_are_errors_or_routes_but_never_panics(outcome in lies(), extra in any::<Option<bool>>()) {
        let mut outcome = outcome;
        match extra {
            Some(true) => outcome.spans.push(0),
            Some(false) => drop(outcome.kinds.pop()),
            None => {}
        }
        if let Ok(answer) = check(&outcome) {
            prop_assert!(answer.routes.len() <= outcome.kinds.len());
            prop_assert!(answer.routes.is_sorted_by_key(|(change, _)| *change));
            prop_assert!(answer.routes.iter().all(|(change, _)| *change < 2));
        }
    }
}
